"Timings of what the project does, each in one run beside what others do"
