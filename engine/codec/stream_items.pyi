from engine.codec.logical import StreamDetails
from engine.codec.value_items import ValueItems

class StreamItems(ValueItems):
    def details(self) -> StreamDetails: ...
