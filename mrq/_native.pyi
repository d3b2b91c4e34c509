"""The native data path's extension; its sources are under mrq/native."""

#: As `mrq.native.INTERFACE`, or this extension isn't used.
INTERFACE: int
