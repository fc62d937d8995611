from engine.codec.command_reader cimport CommandReader
from engine.codec.name_table cimport NameTable

cdef class NamedCommands(CommandReader):
    cdef NameTable names
