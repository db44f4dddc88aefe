"""Many runs from one definition: tasks x settings x seeds, selected and reported.

`definition` says what is to be run, `cells` which runs that makes, `schedule` who runs
which, `runner` runs them, `selection` compares their results, `report` writes the
pages.
"""
