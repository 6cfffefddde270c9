"""The command `featurebench` and how it ends: done, mendable by the user, or a bug."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click

from featurebench.cli.signals import INTERRUPTED, RESUME, orderly_end
from featurebench.errors import FeatureBenchError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Group(click.Group):
    """Turns errors that the user can mend into one line and status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs in the order of the work."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            with orderly_end():
                return super().invoke(ctx)
        except FeatureBenchError as error:
            click.echo(f"featurebench: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            place = f" {error.filename}" if error.filename else ""
            click.echo(
                f"featurebench: cannot write{place}: {error.strerror}; make room or give another "
                "folder, then run the same command again",
                err=True,
            )
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo(f"\nfeaturebench: {RESUME}", err=True)
            sys.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featurebench")
def main() -> None:
    """Measure whether a frozen network with a cheap head is enough, or fine-tuning is needed.

    Start with 'featurebench init DIR' on a folder of labelled tiles, then run
    'featurebench run experiment.yaml'. Everything can be stopped and run again.
    """
