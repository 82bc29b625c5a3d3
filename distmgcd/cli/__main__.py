"""python -m distmgcd.cli"""

from distmgcd.cli import main

main()
