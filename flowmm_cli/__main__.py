"""`python -m flowmm_cli` is `flowmm`."""

from flowmm_cli.app import main

main()
