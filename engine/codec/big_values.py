"""The way of a value that is too large to be held: built under another name while its bytes arrive, then renamed.

    [CHECK]     alone, where keys of the target are kept: is there one of this name?
    parts       value_expander.py, stream_expander.py
    FINISH      alone: RENAME, PEXPIREAT

Nobody sees half a value. What a cut transfer leaves is under one name, which the next attempt removes.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.rdb_walker import RdbWalker
    from engine.codec.stream_expander import StreamExpander
    from engine.codec.value_expander import BEFORE_VALUE, BEHIND_VALUE, DONE, FULL, REFUSED

from engine.codec import rdb_grammar as grammar
from engine.codec.part_blocks import check_commands, finish_commands
from engine.codec.part_names import part_name
from engine.codec.slots import key_slot

if not cython.compiled:
    # What is due of a big value.
    NO_VALUE = 0
    CHECK = 1
    BEGINNING = 2
    EXPANDING = 3
    FINISH = 4
    SKIPPING = 5
    # What `go_on_with_value` answers.
    NEEDS_MORE = 0
    GOES_ON = 1
    GIVES_OUT = 2

IDLE_TIMES = "idle times and frequencies of big values"
BIG_KEY_METADATA = "key metadata of big values"
EMPTY_KEYS = "empty collections"
LARGEST_HELD = 1 << 40  # the walker's own limit: what may be held is decided here


@cython.cclass
class BigValues(RdbWalker):
    """The part of the snapshot transcoder that streams values; it writes the others.

    big_value: what is due of one, NO_VALUE outside of them. big_values: how many were built so far. last_value_key: of the
    one before.
    """

    def __init__(self, plan) -> None:
        RdbWalker.__init__(self, LARGEST_HELD)
        self.plan = plan
        self.big_bytes = min(plan.big_value_bytes, plan.value_limit_bytes)
        self.big_value = NO_VALUE
        self.big_values = 0
        self.expander = None
        self.has_field_ttls = False
        self.last_value_key = None

    # ---- the transcoder's

    def put_select(self):
        raise NotImplementedError

    def note_key(self):
        raise NotImplementedError

    def refuse(self, key, what, why):
        raise NotImplementedError

    def count(self, kind, number):
        raise NotImplementedError

    def forget_attributes(self):
        raise NotImplementedError

    def take_block(self):
        raise NotImplementedError

    def target_name(self):
        raise NotImplementedError

    def takes_value(self):
        """Whether the value at hand goes to the target at all."""
        return True

    # ---- which values are big

    def grows_too_large(self):
        """Bytes are missing of the record at hand: whether it is a value that is gone on with in parts.

        Raises:
            UnsupportedByTarget: it is no value, and too large to be held.
        """
        known: cython.Py_ssize_t = max(self.end, self.wanted)
        if self.state != 2:
            return False
        if self.op >= 243 or self.value_start <= self.record:
            if known - self.record > self.plan.value_limit_bytes:
                raise self.too_large(known - self.record)
            return False
        return known - self.value_start > self.big_bytes and self.begin_value(
            known - self.value_start
        )

    def begin_value(self, known):
        """Go on with the value of the key record at hand in parts. False: it is one that must be held.

        known: bytes that it has at least.
        """
        is_held: cython.bint = self.op == 7 or self.op == 64
        if is_held and known <= self.plan.value_limit_bytes:
            return False
        self.keys_read += 1
        self.last_hash = None
        is_taken: cython.bint = self.takes_value()
        key = self.key_text()
        if is_held or not is_taken:
            self.state = 2
            self.held_key = key
            self.begin_skipping()
            self.record = self.pos
            self.big_value = SKIPPING
            if not is_taken:
                return True
            self.refuse(
                key,
                f"{grammar.NAMES.get(self.op, self.op)}, RDB type {self.op}",
                f"it has {known} bytes or more and can only go in one command; the target takes "
                f"{self.plan.value_limit_bytes}",
            )
            return True
        if self.version == 9 and self.op == 4:
            self.last_hash = self.target_name()
        if self.margin_ms > 0 and 0 <= self.expire_at_ms < self.horizon_ms:
            self.expire_at_ms += self.margin_ms
            self.margined += 1
        if self.records_keys:
            self.note_key()
        if self.idle_seconds >= 0 or self.frequency >= 0:
            self.count(IDLE_TIMES, 1)
        if self.key_metadata is not None:
            self.count(BIG_KEY_METADATA, 1)
        self.has_field_ttls = self.op in (22, 23, 24, 25)
        self.state = 2
        self.held_key = key
        self.pos = self.value_start
        self.record = self.pos
        self.big_value = BEGINNING if self.is_replace else CHECK
        return True

    # ---- on the way

    def go_on_with_value(self):
        """NEEDS_MORE, GOES_ON, or GIVES_OUT: the block at hand, then `alone_block`."""
        found: cython.int
        mark: cython.Py_ssize_t = self.out.pos
        has_selected: cython.bint = False
        if self.big_value == SKIPPING:
            if self.skip_some() == 0:
                return NEEDS_MORE
            self.end_value()
            return GOES_ON
        if self.big_value == CHECK or self.big_value == FINISH:
            return GIVES_OUT
        if self.block_replies == 0:
            self.put_select()
            has_selected = True
        if self.expander is None:
            self.expander = StreamExpander(self, self.out, self.plan, self.not_carried)
        if self.big_value == BEGINNING:
            self.big_value = EXPANDING
            self.expander.begin(self.built_name(), self.horizon_ms if self.margin_ms > 0 else 0)
        found = self.expander.run()
        if has_selected and self.expander.replies == 0:
            self.out.pos = mark
            self.block_replies = 0
        self.block_replies += self.expander.replies
        self.expander.replies = 0
        if found == DONE:
            if self.expander.made == 0:
                self.count(EMPTY_KEYS, 1)
                self.end_value()
                return GOES_ON
            self.big_value = FINISH
            self.big_values += 1
            return GIVES_OUT
        if found == REFUSED:
            self.give_up()
            return GOES_ON
        return GOES_ON if found == FULL else NEEDS_MORE

    def built_name(self):
        """Under which the value is built."""
        tags = self.plan.part_tags
        if tags is None:
            return part_name(self.plan.part_suffix)
        slot = key_slot(self.target_name())
        return part_name(self.plan.part_suffix, tags[4 * slot : 4 * slot + 4])

    def give_up(self):
        """The target can't have the value: remove what was built of it, and pass over the rest."""
        left: cython.longlong = self.expander.items_left
        name = grammar.NAMES.get(self.op, f"type {self.op}")
        # First: where it stops the run, the value is still named as one being built, for the caller to remove.
        self.refuse(self.held_key, f"{name}, RDB type {self.op}", self.expander.reason)
        self.expander.begin(self.expander.name, 0)  # its DEL
        self.block_replies += 1
        self.expander.replies = 0
        self.big_value = SKIPPING
        if left == BEHIND_VALUE:
            self.end_value()
        elif left == BEFORE_VALUE:
            self.begin_skipping()
        else:
            self.skip_items(left)

    def end_value(self):
        self.big_value = NO_VALUE
        self.state = 1
        self.last_value_key = self.held_key
        self.held_key = None
        self.record = self.pos
        self.forget_attributes()

    def leave_value_out(self):
        """The target has the key, and keeps it: call behind the block that asked for it."""
        if self.big_value == BEGINNING:
            self.begin_skipping()
            self.big_value = SKIPPING

    @property
    def value_key(self):
        """The key of the big value that is under way; None if there is none."""
        return self.held_key

    @property
    def part_name(self):
        """Under which a value is being built; None if none is."""
        return self.built_name() if self.big_value in (EXPANDING, FINISH) else None

    def alone_block(self):
        """The block that is due by itself."""
        self.put_select()
        may_be_gone = False
        if self.big_value == CHECK:
            commands = check_commands(self.target_name())
            self.big_value = BEGINNING
        else:
            commands = finish_commands(
                self.built_name(),
                self.target_name(),
                expire_at_ms=self.expire_at_ms,
                is_replace=self.is_replace,
            )
            may_be_gone = self.has_field_ttls or (self.expire_at_ms >= 0 and not self.is_replace)
            self.block_keys += 1
            self.end_value()
        for command in commands:
            self.out.put_bytes(command)
        self.block_replies += len(commands)
        block = self.take_block()
        block.is_alone = True
        block.may_be_gone = may_be_gone
        return block
