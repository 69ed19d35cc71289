"""The command line: `llmcourse COMMAND --help` says what each command does.

Results go to standard output, bars and errors to standard error. The exit code is 0
when all went well, 1 when something could not be done, 2 when the command was not
understood, 130 when Ctrl-C stopped it.
"""

import sys
import warnings

from llmcourse.cli import align as align
from llmcourse.cli import ask as ask
from llmcourse.cli import chat as chat
from llmcourse.cli import evaluate as evaluate
from llmcourse.cli import finetune as finetune
from llmcourse.cli import generate as generate
from llmcourse.cli import pipeline as pipeline
from llmcourse.cli import pretrain as pretrain
from llmcourse.cli import serve as serve
from llmcourse.cli.console import app, say
from llmcourse.cli.text import load_tokenizer

__all__ = ["app", "load_tokenizer", "main"]


def main() -> None:
    """Run the command line; a mistake becomes one line and exit code 1."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            app()
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            say(f"error: {str(error) or type(error).__name__}")
            sys.exit(1)
