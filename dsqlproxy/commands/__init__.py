"""The commands of the command line, one file each.

``dsqlproxy NAME …`` imports ``dsqlproxy.commands.NAME``, and only that file, when
NAME is asked for. A command file holds three things::

    HELP: str
        The manual of the command in prose, shown by ``--help``: a first paragraph
        that says what the command does, then what a user has to know. Lines of at
        most 80 columns; they are printed as they stand. The one line in the list
        of ``dsqlproxy --help`` stands in ``cli.COMMANDS``.

    def add_arguments(parser: argparse.ArgumentParser) -> None
        Defines the command's own flags. ``-h/--help`` is there already.

    def run(args: argparse.Namespace) -> int
        Does the work and returns the exit code.

Heavy imports (pydantic, asyncio, uvloop, boto3, the emulator) stand inside ``run``
or below it, so that ``--help`` and the small commands start quickly.

What goes wrong leaves ``run`` as an exception of ``dsqlproxy.errors``; ``cli.main``
prints it on standard error, as ``dsqlproxy: …`` lines, and turns it into the exit
code: ConfigError is 2, any other DsqlProxyError is 1, KeyboardInterrupt is 130.
Bad usage that argparse cannot see is ``raise ConfigError(["--listener: …"])``.

Commands that take the proxy's configuration share ``dsqlproxy.commands.options``:
``options.add_config_arguments(parser)`` defines ``--config`` and the flags that set
a key, ``options.load(args)`` gives the ``LoadedConfig``, errors included.
"""
