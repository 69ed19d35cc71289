"""Classroom: assignments that are released, collected, graded and given back.

    values       plain values that two processes exchange, never objects
    child        the process that runs a student's code
    sandbox      what that process may see and use
    student      that process seen from outside: run a cell, call a function
    tasks        what the tests of an assignment use: random numbers, gradients
    assignments  one source per assignment, and its release
    opening      what a class's notebook says first: install, hand in, by when
    grading      a hand-in's tests, run out of reach of the student's code
    collecting   hand-ins from learning platforms, laid onto the release
    course       a class's folder: release, collect, grade
    recorded     replacements for steps of nbgrader
    pages        what is written for people and platforms, from templates
    feedback     the page that a student gets back
    reporting    which tests are good, grades as CSV, written answers in bulk
    gradescope   an assignment as an autograder for Gradescope
    similarity   hand-ins that are suspiciously alike
    quizzes      questions with a reason for each option; objectives
    contest      how near the floor a model of 6 MB comes

Read first: values, student, grading.
"""
