"""Typed errors: each says whose fault it is and how to mend it.

None ever carries a value of a row, a key or a raw update.
"""

from __future__ import annotations


class FedprofileError(Exception):
    """Base of all errors that a user may see. ``exit_code`` is what the command line returns."""

    exit_code = 1

    def __init__(self, what: str, mend: str = "") -> None:
        self.what = what
        self.mend = mend
        super().__init__(f"{what}. {mend}" if mend else what)


class UsageError(FedprofileError):
    """The command was used wrongly: a bad override, a run folder in use, an unknown name."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is wrong; ``key`` names it."""

    def __init__(self, key: str, what: str, mend: str = "") -> None:
        self.key = key
        super().__init__(f"{key}: {what}", mend)


class DataError(FedprofileError):
    """A federation folder or table is wrong; names file, column and count, never a value."""

    def __init__(self, file: str, what: str, mend: str = "", *, column: str = "", count: int | None = None) -> None:
        self.file, self.column, self.count = file, column, count
        where = f"{file}, column {column!r}" if column else file
        how_many = f" ({count} rows)" if count is not None else ""
        super().__init__(f"{where}: {what}{how_many}", mend)


class ProtocolError(FedprofileError):
    """Base of fps1 errors; ``code`` is a fixed identifier that may cross the wire, the text may not."""

    def __init__(self, code: str, what: str = "", mend: str = "") -> None:
        self.code = code
        super().__init__(f"{code}: {what}" if what else code, mend)


class LocalProtocolError(ProtocolError):
    """This side broke the protocol: a programming error here."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol; refused, nothing released."""


class PolicyRefusal(ProtocolError):
    """A request that is well formed but outside this node's own policy."""


class TrainingDiverged(FedprofileError):
    """A loss or weight became NaN or infinite; names the node and the layer."""

    def __init__(self, node: str, layer: str, t: int) -> None:
        self.node, self.layer, self.t = node, layer, t
        super().__init__(
            f"training diverged at node {node!r}, layer {layer!r}, round {t}",
            "Lower learning.lr, or look for extreme values in that node's table.",
        )


class NodeFailed(FedprofileError):
    """A node answered with a fixed error code instead of its message.

    ``complaint``: SHA-256 (hexadecimal) of its signed complaint about what it was sent, "" without one.
    """

    def __init__(self, node: str, code: str, detail: str = "", mend: str = "", *, complaint: str = "") -> None:
        self.node, self.code, self.complaint = node, code, complaint
        super().__init__(f"node {node!r} answered {code}" + (f": {detail}" if detail else ""), mend)


class DeploymentError(FedprofileError):
    """Certificates, SuperLink, gate or a node's connection to them is wrong; the cause is named, with the mend."""
