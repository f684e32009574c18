// Package bench measures Holdfast beside redis-server and ends it in the middle of its work: real processes on loopback,
// real disks, replies checked.
//
// Main is `holdfast bench NAME`. A benchmark starts the servers that it needs on ports that the kernel chose, with data in
// temporary directories, ends them by pid, prints a table and lines in benchstat's format, and writes the table with the
// command and the machine that made it to docs/bench/NAME.md.
//
// To add a benchmark, write its run function in a file with its name and add a row to the table in main.go.
package bench
