"""The schema of a run's configuration, one dataclass a group; comments on keys stand in ``configs/``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DataConfig:
    """Whose tables: ``members`` is the default number of nodes in a partner role, ``fold`` rotates the split."""

    source: str = "nhanes"
    root: str | None = None
    members: int = 3
    fold: int = 0


@dataclass
class LearningConfig:
    """Rounds of federated learning; ``rounds`` and ``steps`` None are chosen from roles and row counts."""

    name: str = "fused_scores"
    rounds: int | None = None
    steps: int | None = None
    lr: float = 2e-3
    weight_decay: float = 0.01
    batch: int = 256
    share: str = "all"
    trees: str = "auto"
    view_dropout: float = 0.0


@dataclass
class ModelConfig:
    """A node's network; ``encoder`` and ``head`` are registered names."""

    encoder: str = "mlp"
    head: str = "continuation_ratio"
    replicas: int = 3
    ensemble: int = 1
    hidden: int = 96
    profile: int = 64
    dropout: float = 0.2


@dataclass
class FusionConfig:
    """The label owner's fusion of its own columns with the opened score sum."""

    min_views: int = 2
    view_dropout: float = 0.15
    parts: list[str] = field(default_factory=lambda: ["linear", "trees", "network"])


@dataclass
class AlignConfig:
    """How customers are brought into a shared order; ``max_points`` bounds what one partner may ask about."""

    mode: str = "psi"
    max_points: int = 1 << 22


@dataclass
class SecureConfig:
    """fps1; counts are contributions that stay hidden in a sum."""

    profile: str = "strict"
    kem: str = "x25519"
    min_hidden: int = 2
    colluders: int = 0
    max_uploads: int = 400
    max_uploads_day: int = 4000
    accept_differencing: bool = False
    clip: float = 1.0
    verify: str = "auto"


@dataclass
class PrivacyConfig:
    """Noise: on updates, and on labels (epsilon per customer and task, None for none at all)."""

    mechanism: str = "none"
    label_eps: float | None = 2.0
    min_release: int = 256


@dataclass
class FederationConfig:
    """Where nodes run, and how a simulation shapes them; ``members`` None means ``data.members``."""

    backend: str = "inprocess"
    members: int | None = None
    overlap: float = 1.0
    secrets: str = "simulated"
    consent: str = "simulated"
    workers: int = 2


@dataclass
class BaselinesConfig:
    """What the federated model is compared with."""

    enabled: bool = True
    bootstrap: int = 500
    gain_by_partner: bool = True
    cache: str | None = None


@dataclass
class TrackingConfig:
    """MLflow; ``uri`` None is a SQLite file with an absolute path under FEDPROFILE_HOME."""

    enabled: bool = True
    uri: str | None = None
    experiment: str = "fedprofile"
    register: bool = True


@dataclass
class RunConfig:
    """The run folder; None lets the job choose a fresh one."""

    dir: str | None = None


@dataclass
class Config:
    """One run. ``Config()`` is the default job; see ``fedprofile.config.compose`` for YAML and overrides."""

    data: DataConfig = field(default_factory=DataConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    secure: SecureConfig = field(default_factory=SecureConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: RunConfig = field(default_factory=RunConfig)
    seed: int = 0

    @property
    def members(self) -> int:
        """Nodes in each partner role."""
        return self.data.members if self.federation.members is None else self.federation.members
