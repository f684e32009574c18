// Package result is what a run of the benchmarks leaves behind: the machine, the subjects, and a point for each thing that was
// measured, raw. Everything that is shown (tables, benchstat's lines, the page with the plots, comparisons) is made from a Run and
// from nothing else.
package result

import "time"

// Version is the format that this program writes.
const Version = 1

// Names of benchmarks in Point.Bench.
const (
	Throughput = "throughput"
	Sync       = "sync"
	Outage     = "outage"
	Cow        = "cow"
	Restart    = "restart"
)

// NullServer is the name of the subject that answers without doing anything: what it reaches is the limit of the load generator.
const NullServer = "null"

// Run is one run of `holdfast bench`.
type Run struct {
	Version  int
	Command  []string // arguments after the program's name
	Started  time.Time
	Ended    time.Time
	Machine  Machine
	Subjects []Subject // in the order in which they are shown; the first that is redis-server is what others are compared to
	Points   []Point
	Notes    []string `json:",omitempty"` // what a reader must know, a sentence each
}

// Machine is where it ran.
type Machine struct {
	CPU         string
	Cores       int
	MemoryBytes int64
	Kernel      string
	Go          string
	Disk        string  // file system and device of the servers' directories
	FsyncP50    float64 // seconds for appending 4 KiB and fsync, measured before the run
	FsyncP99    float64
	LoadAverage [3]float64 // before the run: other work on the machine shows here
}

// Subject is a server that was measured.
type Subject struct {
	Name    string // as in Point.Subject
	Kind    string // holdfast, redis, or what INFO says of another
	Version string
	Command string // with {port} and {dir} where these go
}

// Point is one measurement of one round. Points of several rounds have the same Bench, Subject and Params.
type Point struct {
	Bench   string
	Subject string
	// Params say what was measured: mix, pipeline, conns, policy, rate, skew, value, keys, peer (the replica), load, bytes, how …
	Params map[string]string
	Round  int // from 1
	// Metrics are named with their unit as benchstat has it: "req/s", "p99-ms", "MB/s", "extra-B", "took-s".
	Metrics map[string]float64
	// Latency is the distribution, in the order of Ms.
	Latency []Bucket `json:",omitempty"`
	// Series are values over time, by the name of a metric.
	Series map[string][]Sample `json:",omitempty"`
}

// Bucket counts latencies of at most Ms milliseconds and above those of the bucket before.
type Bucket struct {
	Ms    float64
	Count int64
}

// Sample is a value at T seconds after the measurement began.
type Sample struct {
	T, Value float64
}
