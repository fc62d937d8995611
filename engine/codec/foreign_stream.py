"""The stream for a target that may understand less than the source sends: see command_bridge for what follows."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS
    from engine.codec.name_table import NameTable
    from engine.codec.stream import StreamTranscoder

from engine.codec.command_bridge import bridge_command, names_to_look_at
from engine.codec.command_support import MOMENTS_SINCE, CannotBridge
from engine.codec.command_text import command_at
from engine.errors import UnsupportedByTarget

# Of the commands that the target knows, which ones are looked at, and how.
AS_IT_IS = 0
OTHER = 3
LOOKED_AT_AS = {b"SET": 1, b"XADD": 2}


@cython.cclass
class ForeignStreamTranscoder(StreamTranscoder):
    """As StreamTranscoder, for a plan with `support`.

    bridged: commands put in the target's words. refused: (db, key, command, why) of those that the target cannot have
    and the plan leaves out; to be emptied by the caller.
    """

    def __init__(self, plan) -> None:
        StreamTranscoder.__init__(self, plan)
        self.support = plan.support
        self.skips_refused = plan.skips_refused
        looked_at = names_to_look_at(plan.support)
        self.names = NameTable(
            (name, LOOKED_AT_AS.get(name, OTHER) if name in looked_at else AS_IT_IS)
            for name in plan.support.commands
        )
        self.takes_moments = plan.support.level >= MOMENTS_SINCE
        self.bridged = 0
        self.refused = []

    def is_special(self):
        return StreamTranscoder.is_special(self) or self.is_foreign()

    def is_foreign(self):
        """Whether the target may lack the command at hand, or a part of it."""
        known: cython.int = self.names.number_of(
            self.ptr, self.argument_start[0], self.argument_bytes[0]
        )
        if known == 0:
            return False
        # The two that come by the thousand: a look at their options, before they are taken apart.
        if known == 1:
            return self.arguments_done > 3 and (not self.takes_moments or self.has_condition())
        if known == 2 and self.arguments_done > 2:
            return self.argument_bytes[2] == 0 or not 48 <= self.ptr[self.argument_start[2]] <= 57
        return True

    def has_condition(self):
        """Whether an option of a SET begins with I, as IFEQ and its kin do."""
        i: cython.Py_ssize_t
        for i in range(3, min(self.arguments_done, KEPT_ARGUMENTS)):
            if self.argument_bytes[i] > 0 and (self.ptr[self.argument_start[i]] & 0xDF) == 73:
                return True
        return False

    def take_special(self):
        if self.arguments_done > 0 and self.is_foreign() and self.take_foreign():
            return
        StreamTranscoder.take_special(self)

    def take_foreign(self):
        """Write the command in the target's words. False: it takes it as it is."""
        words = command_at(bytes(self.window[self.command : self.pos]), 0)
        if not words:
            return False
        try:
            written = bridge_command(words, self.support)
        except CannotBridge as error:
            self.refuse(words, str(error))
            return True
        if written == [words]:
            return False
        self.bridged += 1
        for command in written:
            self.put_command(self.with_margin(command))
        self.block_commands += 1
        return True

    def refuse(self, words, why):
        """Leave the command out and note it, or stop: as the plan says."""
        name = words[0].decode("ascii", "replace").upper()
        key = words[1] if len(words) > 1 else b""
        if not self.skips_refused:
            raise UnsupportedByTarget(
                f"the target cannot have {name} on key {key!r} at offset {self.offset}: {why}",
                hint="use a target that knows it, or leave such commands out with --on-unsupported skip",
            )
        self.refused.append((self.db, key, name, why))

    def with_margin(self, command):
        """A bridged command; while the target is behind, its moment with the margin, as take_expiry does."""
        at = 0
        if command[0] == b"SET" and len(command) > 4 and command[3].upper() == b"PXAT":
            at = 4
        elif command[0] == b"PEXPIREAT" or command[0] == b"HPEXPIREAT":
            at = 2
        if at == 0 or self.margin_ms == 0:
            return command
        self.has_margin = False
        moment = self.later_moment(command[at], False)
        if moment is None:
            return command
        if command[0] == b"HPEXPIREAT":
            self.note_late_hash(self.db, command[1])
        else:
            self.note_late_key(self.db, command[1])
        return [*command[:at], moment, *command[at + 1 :]]
