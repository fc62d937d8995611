"""A source's stream in, what is selected of it out, still a stream: a pass of its own before the transcoder.

What is left out is not copied; names and databases are the target's. So everything behind it knows the target's names
only. Offsets stay the source's: where the bytes put out are not those that came in, a mark (command_reader.py) says from
where the next one counts.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS, MARK_BIAS, MARK_BYTES, CommandReader
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.slot_rules import RULE_FIRST, RULE_LAST, RULE_STEP, RULES, find_rule

from engine.codec.command_support import CannotBridge
from engine.codec.command_text import command_at, encode
from engine.codec.key_filter import KeyFilter
from engine.codec.selected_commands import LOOKED_AT, SelectedCommands
from engine.errors import UnsupportedByTarget

if not cython.compiled:
    KEEP = 0
    KEEP_ANYWHERE = 1  # without keys: in whatever database
    RENAME = 2
    LEAVE_OUT = 3
    LOOK_AT = 4


@cython.final
@cython.cclass
class StreamSelector(CommandReader):
    """Give it the source's bytes by `select`, take what it returns to a transcoder whose plan `takes_marks`.

    offset, db: where the stream begins, and what the source has selected there. owners: NameOwners where databases
    share one of the target, else None. left_out: commands. refused: (db, key, command, why) of those that cannot be put in words for what is selected, where the
    task leaves such out (skips_refused); to be emptied by the caller. failure: the error that such a command is where it
    does not; nothing is taken behind it.
    """

    def __init__(self, selection, offset, db, skips_refused, owners=None) -> None:
        CommandReader.__init__(self, offset)
        self.out = OutBuffer(256 * 1024)
        self.selection = selection
        self.keys = KeyFilter(selection.include_keys, selection.exclude_keys)
        self.commands = SelectedCommands(selection, self.keys, owners)
        self.excluded = frozenset(name.encode() for name in selection.exclude_commands)
        self.owners = owners
        self.has_owners = owners is not None
        self.is_about_keys = selection.is_about_keys
        self.added = selection.prefix_add
        self.stripped_bytes = len(selection.prefix_strip)
        self.renames = bool(self.added) or self.stripped_bytes > 0
        self.skips_refused = skips_refused
        self.left_out = 0
        self.refused = []
        self.failure = None
        self.shown_offset = offset
        self.shown_db = db
        self.sent_db = 0
        if not cython.compiled:
            self.looked_at = [0] * RULES
        for i in range(RULES):
            self.looked_at[i] = 0
        for name in LOOKED_AT | selection.exclude_commands:
            self.note_name(name.encode())
        self.choose_db(db)

    def note_name(self, name):
        """This command is looked at, wherever its keys stand."""
        rule: cython.Py_ssize_t
        if cython.compiled:
            pointer: cython.p_uchar = name
            rule = find_rule(pointer, 0, len(name))
        else:
            rule = find_rule(name, 0, len(name))
        if rule >= 0:
            self.looked_at[rule] = 1

    def choose_db(self, db):
        """The source has selected it."""
        self.source_db = db
        target_db = self.selection.target_db(db)
        self.target_db = -1 if target_db is None else target_db
        if self.has_owners and target_db is not None:
            self.owners.select(db)

    def select(self, chunk):
        """What the target is to have of the next bytes of the stream.

        Raises:
            StreamOutOfStep: they are not a stream of commands.
        """
        found: cython.int
        verdict: cython.int
        run: cython.Py_ssize_t = -1
        self.add_bytes(chunk)
        while self.failure is None:
            found = self.read_command()
            if found == 0:
                break
            verdict = self.verdict() if found == 1 else LOOK_AT
            if verdict <= KEEP_ANYWHERE:
                if run >= 0 and verdict == KEEP and self.sent_db != self.target_db:
                    self.put_run(run)
                    run = -1
                if run < 0:
                    self.begin(verdict == KEEP)
                    run = self.command
                continue
            if run >= 0:
                self.put_run(run)
                run = -1
            if verdict == RENAME:
                self.put_renamed()
            elif verdict == LEAVE_OUT:
                self.left_out += 1
            elif found == 2:
                self.take_inline()
            else:
                self.take()
        if run >= 0:
            self.put_run(run)
        self.show_end()
        return self.out.take()

    def verdict(self):
        """What becomes of the command at hand."""
        rule: cython.Py_ssize_t = find_rule(
            self.ptr, self.argument_start[0], self.argument_bytes[0]
        )
        first: cython.longlong
        if rule < 0 or self.looked_at[rule]:
            return LOOK_AT
        first = RULE_FIRST[rule]
        if first == 0:
            return KEEP_ANYWHERE
        if self.target_db < 0:
            return LEAVE_OUT
        if not self.is_about_keys and not self.has_owners:
            return KEEP
        if first >= self.arguments_done or first >= KEPT_ARGUMENTS:
            return LOOK_AT
        if RULE_LAST[rule] != first:
            return self.verdict_of_several(rule)
        if not self.keys.takes(self.ptr, self.argument_start[first], self.argument_bytes[first]):
            return LEAVE_OUT
        if (
            self.has_owners
            and self.owners.claim(self.ptr, self.argument_start[first], self.argument_bytes[first])
            >= 0
        ):
            return LOOK_AT
        return RENAME if self.renames else KEEP

    def verdict_of_several(self, rule):
        """The same for a command with several keys."""
        first: cython.longlong = RULE_FIRST[rule]
        last: cython.longlong = RULE_LAST[rule]
        step: cython.longlong = RULE_STEP[rule]
        index: cython.longlong = 1
        size: cython.Py_ssize_t
        at: cython.Py_ssize_t = self.second_argument()
        taken: cython.longlong = 0
        others: cython.longlong = 0
        if last < 0:
            last += self.arguments_done
        if self.has_owners or last < first or last >= self.arguments_done:
            return LOOK_AT
        while index <= last:
            size = self.size_at(at)
            at = self.text_after(at)
            if index >= first and (index - first) % step == 0:
                if self.keys.takes(self.ptr, at, size):
                    taken += 1
                else:
                    others += 1
            at += size + 2
            index += 1
        if taken == 0:
            return LEAVE_OUT
        if others:
            return LOOK_AT
        return RENAME if self.renames else KEEP

    def second_argument(self):
        """Where the '$' of argument 1 stands."""
        return self.argument_start[0] + self.argument_bytes[0] + 2

    def size_at(self, at):
        """The length that the '$' at `at` tells; it was read once already."""
        size: cython.Py_ssize_t = 0
        at += 1
        while self.ptr[at] != 13:
            size = size * 10 + self.ptr[at] - 48
            at += 1
        return size

    def text_after(self, at):
        """Where the text behind the '$' at `at` begins."""
        while self.ptr[at] != 10:
            at += 1
        return at + 1

    # ---- what is put out

    def put_mark(self, offset):
        """What comes next counts from `offset`."""
        out = self.out
        out.put_byte(1)
        out.put_little_endian(offset + MARK_BIAS, 8)
        out.put_little_endian(self.source_db, 4)
        self.shown_offset = offset
        self.shown_db = self.source_db

    def begin(self, needs_db):
        """The command at hand is put out next, and those behind it, as they are."""
        start: cython.longlong = self.base_offset + self.command
        if needs_db:
            self.put_select()
        if self.shown_offset != start or self.shown_db != self.source_db:
            self.put_mark(start)
        return 0

    def put_select(self):
        """Have the target's database selected, before the command at hand."""
        if self.sent_db == self.target_db:
            return 0
        command = encode("SELECT", self.target_db)
        self.put_mark(self.base_offset + self.command - len(command))
        self.out.put_bytes(command)
        self.shown_offset = self.base_offset + self.command
        self.sent_db = self.target_db
        return 0

    def put_run(self, run):
        """Put out what stands between `run` and the command at hand, whose commands count."""
        self.out.put(self.ptr, run, self.command - run)
        self.shown_offset += self.command - run
        return 0

    def put_renamed(self):
        """The command at hand with its keys' names at the target."""
        out = self.out
        rule: cython.Py_ssize_t = find_rule(
            self.ptr, self.argument_start[0], self.argument_bytes[0]
        )
        first: cython.longlong = RULE_FIRST[rule]
        last: cython.longlong = RULE_LAST[rule]
        step: cython.longlong = RULE_STEP[rule]
        index: cython.longlong = 1
        at: cython.Py_ssize_t = self.second_argument()
        done: cython.Py_ssize_t = self.command
        size: cython.Py_ssize_t
        more: cython.Py_ssize_t = len(self.added) - self.stripped_bytes
        mark: cython.Py_ssize_t
        if last < 0:
            last += self.arguments_done
        self.put_select()
        mark = out.pos
        self.put_mark(0)
        while index <= last:
            size = self.size_at(at)
            if index >= first and (index - first) % step == 0:
                out.put(self.ptr, done, at - done)
                at = self.text_after(at)
                out.put_header(36, size + more)
                out.put_bytes(self.added)
                done = at + self.stripped_bytes
            else:
                at = self.text_after(at)
            at += size + 2
            index += 1
        out.put(self.ptr, done, self.pos - done)
        self.set_mark(mark)
        return 0

    def set_mark(self, mark):
        """What is put out behind the mark at `mark` is one command, which ends where that at hand does."""
        out = self.out
        end: cython.Py_ssize_t = out.pos
        offset: cython.longlong = self.base_offset + self.pos - (end - mark - MARK_BYTES)
        out.pos = mark + 1
        out.put_little_endian(offset + MARK_BIAS, 8)
        out.pos = end
        self.shown_offset = self.base_offset + self.pos
        return 0

    def show_end(self):
        """The stream has come to the command that is not whole, or is refused."""
        end: cython.longlong = self.base_offset + self.command
        if self.shown_offset != end or self.shown_db != self.source_db:
            self.put_mark(end - 1)
            self.out.put_byte(10)
            self.shown_offset = end
        return 0

    # ---- what is looked at

    def take_inline(self):
        """`select 3` on a line of its own, of sources before 2.8; anything else only moves the offset."""
        if self.arguments_done == 2 and self.argument(0).upper() == b"SELECT":
            self.take_select([b"SELECT", self.argument(1)])

    def take(self):
        """Look at the command at hand, and put out what stands for it."""
        words = command_at(bytes(self.window[self.command : self.pos]), 0)
        name = words[0].upper()
        try:
            if name in self.excluded:
                self.left_out += 1
            elif name == b"SELECT":
                self.take_select(words)
            elif name == b"FLUSHDB" and self.target_db < 0:
                self.left_out += 1
            elif name == b"SWAPDB":
                self.put_instead(self.commands.swapdb(words), words)
            else:
                written = self.commands.decide(words, self.source_db)
                if written is not None and self.target_db >= 0:
                    self.put_select()
                self.put_instead(written, words)
        except CannotBridge as error:
            self.refuse(words, str(error))

    def take_select(self, words):
        if len(words) != 2 or not words[1].isdigit() or len(words[1]) > 9:
            raise self.out_of_step("SELECT without a database number")
        self.choose_db(int(words[1]))

    def put_instead(self, written, words):
        """Put out what stands for `words`, the command at hand."""
        out = self.out
        mark: cython.Py_ssize_t = out.pos
        if written is None:
            self.left_out += 1
        elif written == words:
            self.begin(False)
            out.put(self.ptr, self.command, self.pos - self.command)
            self.shown_offset += self.pos - self.command
        else:
            self.put_mark(0)
            out.put_bytes(encode(*written))
            self.set_mark(mark)

    def refuse(self, words, why):
        """Leave the command out and note it, or stop before it: as the task says."""
        name = words[0].decode("ascii", "replace").upper()
        key = words[1] if len(words) > 1 else b""
        if self.skips_refused:
            self.refused.append((self.source_db, key, name, why))
            return
        self.failure = UnsupportedByTarget(
            f"{name} on key {key[:80]!r} of database {self.source_db} at offset {self.base_offset + self.pos} cannot be "
            f"done for what this task takes along: {why}",
            hint="choose keys and databases so that such commands stay on one side, or leave them out with "
            "--exclude-command or --on-unsupported skip, under another --task-id",
        )
