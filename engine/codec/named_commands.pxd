from engine.codec.command_reader cimport KEPT_ARGUMENTS, CommandReader
from engine.codec.name_table cimport NameTable

cdef class NamedCommands(CommandReader):
    cdef NameTable names
