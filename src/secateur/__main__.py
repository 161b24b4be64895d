"""`python -m secateur` is the command line; torchrun starts it this way."""

from secateur.cli import main

if __name__ == "__main__":
    main()
