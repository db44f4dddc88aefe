"""Many runs from one definition: tasks x settings x seeds, selected and reported.

`definition` says what is to be run, `cells` which runs that makes, `runner` runs
them, `standings` compares their results, and `report` writes the pages.
"""
