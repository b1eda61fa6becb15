"""`python -m lavit_cli` is `lavit`."""

from lavit_cli.main import main

if __name__ == "__main__":
    main()
