"""Finds the few commands of a block that somebody wants to look at, among thousands that go by unread."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS, CommandReader
    from engine.codec.name_table import NameTable

from engine.codec.command_text import command_at


@cython.cclass
class NamedCommands(CommandReader):
    """Iterate to get the arguments of each command in `data`, whole commands, whose name is in `names`, a NameTable."""

    def __init__(self, names, data) -> None:
        CommandReader.__init__(self, 0)
        self.names = names
        self.add_bytes(data)

    def __iter__(self):
        return self

    def __next__(self):
        names: NameTable = self.names
        while self.read_command() == 1:
            if names.number_of(self.ptr, self.argument_start[0], self.argument_bytes[0]) >= 0:
                if self.arguments_done <= KEPT_ARGUMENTS:
                    return [self.argument(i) for i in range(self.arguments_done)]
                return command_at(bytes(self.window[self.command : self.pos]), 0)
        raise StopIteration
