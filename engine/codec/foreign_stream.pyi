from engine.codec.plan import StreamPlan
from engine.codec.stream import StreamTranscoder

class ForeignStreamTranscoder(StreamTranscoder):
    bridged: int
    refused: list[tuple[int, bytes, str, str]]
    def __init__(self, plan: StreamPlan) -> None: ...
