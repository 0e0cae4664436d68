"""``python -m deltatui``."""

from deltatui.cli import main

if __name__ == "__main__":
    main()
