"""PROCESS: `orderctl`, interrupted: `python -m testkit.programs.matrix.orderctl ARGUMENTS…`."""

from console.orderctl import main
from testkit.programs.matrix import arm

arm()

if __name__ == "__main__":
    main()
