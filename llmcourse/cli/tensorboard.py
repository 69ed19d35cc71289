"""The curves of a run for TensorBoard, in addition to its log of JSON lines.

    llmcourse pretrain --out run/ --tensorboard curves/
    tensorboard --logdir curves/

The log of JSON lines remains the record of a run: nothing reads these curves back.
"""

from pathlib import Path
from typing import Any

from llmcourse.extras import needed_for
from llmcourse.training.config import Evaluation, Record


class TensorBoardLog:
    """A progress callback that writes each record as points of TensorBoard's curves.

    The curves are "update/loss", "evaluation/loss", "update/learning_rate" and so on,
    over the step. A resumed run repeats some steps: TensorBoard shows what was written
    last. Everything is on disk after each evaluation.

    Args:
        folder: For this run's curves; created with the first record.

    Raises:
        ImportError: If the package `tensorboard` is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        with needed_for("a TensorBoardLog", "tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self.folder = Path(folder)
        self._new_writer: Any = SummaryWriter
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        """Write a record.

        Raises:
            OSError: If the folder cannot be written.
        """
        if self._writer is None:
            # What was written from this step on is no longer shown.
            self._writer = self._new_writer(str(self.folder), purge_step=record.step)
        kind = type(record).__name__.lower()
        values = vars(record) | record.metrics
        for name in values.keys() - {"step", "metrics"}:
            self._writer.add_scalar(f"{kind}/{name}", values[name], record.step)
        if isinstance(record, Evaluation):
            self._writer.flush()
