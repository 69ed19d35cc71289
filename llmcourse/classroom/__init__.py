"""Classroom: assignments that are released, collected, graded and given back.

    values       plain values that two processes exchange, never an object
    child        the process that runs a student's code
    sandbox      what that process may see and use
    student      that process from outside: run a cell, call a function
    tasks        what the tests of an assignment use: random numbers, gradients
    assignments  one source per assignment; what is released of it
    grading      a hand-in's tests, run where the student's code cannot reach
    collecting   what learning platforms hand out, laid onto the release
    course       a class's folder: release, collect, grade
    recorded     the steps of nbgrader that this replaces
    reporting    which test is good, grades as CSV, written answers in bulk
    gradescope   an assignment as an autograder for Gradescope
    similarity   hand-ins that are suspiciously alike
    quizzes      questions with a reason for each option; objectives
    contest      how near the floor a model of 6 MB comes

Read first: values, student, grading.
"""
