// Package bench measures Holdfast beside redis-server and ends it in the middle of its work: real processes on loopback,
// real disks, replies checked.
//
// Main is `holdfast bench NAME`. A benchmark starts the servers that it needs on ports that the kernel chose, with data in
// temporary directories, ends them by pid, prints a table and lines in benchstat's format, and writes the table with the
// command and the machine that made it to docs/bench/NAME.md.
//
// What a run finds goes as points into package result, from which package report makes page, tables and comparisons. A Generator
// is the load where throughput is measured, and a NullListener shows its limit; Load and Paced, which check what replies say, are the loads elsewhere.
//
// Replication is measured with a fleet of servers that keep their addresses and directories when they are ended. A Proxy is the
// network between them, which counts, slows down and breaks. A Paced load measures what clients feel, a Ledger knows what
// they were promised, a memWatch what it cost. What a Holdfast must never do fails the run (the judge methods); what Redis does is
// a figure in the table.
//
// To add a benchmark, write its run function in a file with its name and add a row to the table in main.go.
package bench
