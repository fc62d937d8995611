"""Writes blocks of the stream: transactions that carry their checkpoint.

    WATCH checkpoint · HSETNX checkpoint token-before 0 · MULTI · [SELECT db] · commands … · [SELECT 0]
        · HDEL checkpoint token-before · HSET checkpoint … offset n db d token 1 · EXEC

What the token is for stands in engine/checkpoint/checkpoint.py.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import CommandReader
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.slot_index import SlotIndex

from engine.codec.block import Block

GUARD_REPLIES = 2  # of WATCH and HSETNX
NO_CUT = 1 << 62  # an offset that no stream comes to


@cython.cclass
class BlockWriter(CommandReader):
    """Puts the commands that the reader has found, or others, into a block.

    offset: the stream offset after the last command taken. block_offset: that of the newest block given out.
    serial: number of that block's write (checkpoint.py). db: database selected in the commands at `offset`; source_db: at
    the source, the same unless databases are left out or renamed (stream_selector.py).
    margin_since_ms: since when expiries may stand on the target with a margin, 0: there are none.
    """

    def __init__(self, plan) -> None:
        CommandReader.__init__(self, plan.offset)
        self.offset = plan.offset
        self.replid = plan.replid.encode()
        self.epoch = plan.epoch
        self.checkpoint_key = plan.checkpoint_key
        self.has_checkpoint = plan.is_transactional
        self.ledger = plan.ledger.encode()
        self.serial = plan.serial
        self.block_offset = plan.offset
        self.margin_since_ms = plan.margin_since_ms
        self.block_bytes = plan.block_bytes
        self.cut_offsets = []
        self.next_cut = NO_CUT
        self.out = OutBuffer(plan.block_bytes + 64 * 1024)
        self.takes_marks = plan.takes_marks
        self.replaces_libraries = plan.replaces_libraries
        self.source_db = plan.db
        self.db = 0 if plan.takes_marks else plan.db
        self.block_db = 0
        self.is_open = False
        self.block_replies = 0
        self.block_commands = 0
        self.moves_keys = False  # in the open block, or the command at hand does
        self.has_index = plan.tells_slots
        self.index = SlotIndex()

    def set_replid(self, replid):
        """The history goes on under another id (PSYNC2); blocks closed from now on say so."""
        self.replid = replid.encode()

    def cut_at(self, offsets):
        """End a block at each of these offsets of the stream, however few commands it has."""
        self.cut_offsets = sorted(offsets, reverse=True)
        self.pass_cuts()

    def pass_cuts(self):
        """Go to the first one ahead."""
        while self.cut_offsets and self.cut_offsets[-1] <= self.offset:
            self.cut_offsets.pop()
        self.next_cut = self.cut_offsets[-1] if self.cut_offsets else NO_CUT
        return 0

    def checkpoint_block(self):
        """A block without commands: the open one must have been taken."""
        self.open_block()
        return self.close_block()

    def copy_command(self):
        if not self.is_open:
            self.open_block()
        self.out.put(self.ptr, self.command, self.pos - self.command)
        self.block_commands += 1
        self.block_replies += 1

    def put_command(self, arguments):
        """Write a command of our own making in place of the source's."""
        if not self.is_open:
            self.open_block()
        self.out.put_header(42, len(arguments))
        for text in arguments:
            self.out.put_bulk_bytes(text)
        self.block_replies += 1

    def take_function(self):
        """FUNCTION LOAD and RESTORE so that they replace: at the source there was no such library, or they said it themselves."""
        count = self.arguments_done
        what = self.argument(1).upper() if count > 1 and self.replaces_libraries else b""
        if what == b"LOAD" and count == 3:
            self.put_command([b"FUNCTION", b"LOAD", b"REPLACE", self.argument(2)])
            self.block_commands += 1
        elif what == b"RESTORE" and (
            count == 3 or (count == 4 and self.argument(3).upper() == b"APPEND")
        ):
            self.put_command([b"FUNCTION", b"RESTORE", self.argument(2), b"REPLACE"])
            self.block_commands += 1
        else:
            self.copy_command()

    def put_token(self):
        """The token of the write `serial` (checkpoint.py, token)."""
        self.out.put_bulk_bytes(b"at:%d:%d" % (self.epoch, self.serial))

    def open_block(self):
        out = self.out
        self.is_open = True
        self.block_db = 0
        self.block_replies = 0
        self.block_commands = 0
        if self.has_checkpoint:
            out.put_bytes(b"*2\r\n$5\r\nWATCH\r\n")
            out.put_bulk_bytes(self.checkpoint_key)
            out.put_bytes(b"*4\r\n$6\r\nHSETNX\r\n")
            out.put_bulk_bytes(self.checkpoint_key)
            self.put_token()
            out.put_bytes(b"$1\r\n0\r\n*1\r\n$5\r\nMULTI\r\n")
            self.block_replies = GUARD_REPLIES + 1
        if self.db != 0:
            out.put_bytes(b"*2\r\n$6\r\nSELECT\r\n")
            out.put_bulk_number(self.db)
            self.block_replies += 1
            self.block_db = self.db

    def close_block(self):
        out = self.out
        if self.block_db != 0:
            out.put_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
            self.block_replies += 1
        if self.has_checkpoint:
            out.put_bytes(b"*3\r\n$4\r\nHDEL\r\n")
            out.put_bulk_bytes(self.checkpoint_key)
            self.put_token()
            self.serial += 1
            out.put_bytes(b"*20\r\n$4\r\nHSET\r\n")
            out.put_bulk_bytes(self.checkpoint_key)
            out.put_bytes(
                b"$6\r\nformat\r\n$1\r\n1\r\n$5\r\nphase\r\n$6\r\nstream\r\n$5\r\nepoch\r\n"
            )
            out.put_bulk_number(self.epoch)
            out.put_bytes(b"$6\r\nreplid\r\n")
            out.put_bulk_bytes(self.replid)
            out.put_bytes(b"$6\r\noffset\r\n")
            out.put_bulk_number(self.offset)
            out.put_bytes(b"$2\r\ndb\r\n")
            out.put_bulk_number(self.source_db)
            out.put_bytes(b"$6\r\nledger\r\n")
            out.put_bulk_bytes(self.ledger)
            out.put_bytes(b"$12\r\nmargin_since\r\n")
            out.put_bulk_number(self.margin_since_ms)
            self.put_token()
            out.put_bytes(b"$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n")
            self.block_replies += 3  # HDEL, HSET, EXEC
        index = self.index.take(out.pos) if self.has_index else None
        block = Block(
            data=out.take(),
            index=index,
            replies=self.block_replies,
            commands=self.block_commands,
            offset=self.offset,
            db=self.source_db,
            is_transaction=self.has_checkpoint,
            guard_replies=GUARD_REPLIES if self.has_checkpoint else 0,
        )
        block.moves_keys = self.moves_keys
        self.moves_keys = False
        self.is_open = False
        self.block_offset = self.offset
        return block
