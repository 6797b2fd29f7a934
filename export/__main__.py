"""python -m export MODEL --to DIR [--onnx] [--push ORG/NAME --revision TAG], or --cards"""

from __future__ import annotations

import sys

from pihc_zoo.cli import export as command
from pihc_zoo.cli.arguments import Parser, add_imports
from pihc_zoo.registration import import_packages

from . import cards


def main(arguments: list[str] | None = None) -> int:
    """Command line of export; errors are one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if "--cards" in arguments:
            if arguments != ["--cards"]:
                raise ValueError("--cards stands alone: it writes the cards of all shipped models")
            for path in cards.write():
                print(f"wrote {path}")
            return 0
        parser = Parser(
            prog="python -m export",
            description="Write a complete model folder and push it to the Hub.",
            epilog="python -m export --cards regenerates model_cards/ and the shipped folders' README.md.",
        )
        command.add_arguments(parser)
        add_imports(parser)
        options = parser.parse_args(arguments)
        import_packages(options.imports)
        return command.run(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again, nothing on the Hub was changed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
