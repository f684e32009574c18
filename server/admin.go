package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Commands for whoever runs the server: checkpoints, shutdown, slow log, latency, memory, replication's role.

func (s *session) cmdSave(_ [][]byte) {
	w := s.conn.Out()
	if s.eng.LastCheckpoint().Running {
		w.Error(reply.BgsaveInProgress)
		return
	}
	if err := s.eng.Checkpoint(s.ctx); err != nil {
		s.srv.log.Error("checkpoint asked for by a client failed", "error", err)
		w.Error("ERR " + err.Error())
		return
	}
	w.OK()
}

// cmdBgSave takes a checkpoint in the background. One that runs already is as good as a failure to Redis's clients, who
// then ask for another with SCHEDULE.
func (s *session) cmdBgSave(args [][]byte) {
	w := s.conn.Out()
	schedule := len(args) == 2 && isWord(args[1], "schedule")
	if len(args) > 1 && !schedule {
		w.Error(reply.Syntax)
		return
	}
	if s.eng.LastCheckpoint().Running {
		if !schedule {
			w.Error(reply.BgsaveInProgress)
			return
		}
		s.srv.checkpointSoon()
		w.Simple("Background saving scheduled")
		return
	}
	s.srv.checkpointSoon()
	w.Simple("Background saving started")
}

func (s *session) cmdBgRewriteAOF(_ [][]byte) {
	s.srv.checkpointSoon()
	s.conn.Out().Simple("Background append only file rewriting started")
}

func (s *session) cmdLastSave(_ [][]byte) { s.conn.Out().Int(s.eng.LastCheckpoint().End.Unix()) }

// shutdownOptions are the words of SHUTDOWN.
type shutdownOptions struct{ noSave, now, force, abort bool }

func (s *session) cmdShutdown(args [][]byte) {
	w := s.conn.Out()
	var o shutdownOptions
	save := false
	for _, a := range args[1:] {
		switch strings.ToLower(string(a)) {
		case "nosave":
			o.noSave = true
		case "save":
			save = true
		case "now":
			o.now = true
		case "force":
			o.force = true
		case "abort":
			o.abort = true
		default:
			w.Error(reply.Syntax)
			return
		}
	}
	if o.abort && len(args) > 2 || o.noSave && save {
		w.Error(reply.Syntax)
		return
	}
	if o.abort {
		w.Error(reply.ShutdownNoAbort)
		return
	}
	s.srv.log.Info("shutdown asked for by a client", "addr", s.conn.RemoteAddr())
	if !o.noSave && !o.force {
		// What cannot be written must not end the server: the data in memory is then the best there is.
		ctx, cancel := s.srv.shutdownContext()
		err := s.eng.Checkpoint(ctx)
		cancel()
		if err != nil {
			s.srv.log.Error("shutdown given up, the last checkpoint failed", "error", err)
			w.Error(reply.ShutdownErrors)
			return
		}
	}
	s.srv.requestShutdown(o)
	s.quit = true
}

// --- SLOWLOG

const slowlogDefaultCount = 10

func (s *session) cmdSlowlogGet(args [][]byte) {
	w := s.conn.Out()
	n := int64(slowlogDefaultCount)
	if len(args) > 3 {
		w.Error(fmt.Sprintf(reply.UnknownSubcommandOrArityF, args[1], "SLOWLOG"))
		return
	}
	if len(args) == 3 {
		var ok bool
		if n, ok = command.ParseInt(args[2]); !ok || n < -1 {
			w.Error("ERR count should be greater than or equal to -1")
			return
		}
	}
	entries := s.srv.slowlog.newest(int(min(n, math.MaxInt32)))
	w.Array(len(entries))
	for i := range entries {
		e := &entries[i]
		w.Array(6)
		w.Int(e.id)
		w.Int(e.at.Unix())
		w.Int(e.took.Microseconds())
		w.Array(len(e.args))
		for _, a := range e.args {
			w.Bulk(a)
		}
		w.BulkString(e.addr)
		w.BulkString(e.name)
	}
}

func (s *session) cmdSlowlogLen(_ [][]byte) { s.conn.Out().Int(int64(s.srv.slowlog.len())) }

func (s *session) cmdSlowlogReset(_ [][]byte) {
	s.srv.slowlog.reset()
	s.conn.Out().OK()
}

// --- LATENCY

func (s *session) cmdLatencyLatest(_ [][]byte) {
	w := s.conn.Out()
	names := s.srv.latency.names()
	w.Array(len(names))
	for _, n := range names {
		samples, worst := s.srv.latency.series(n)
		last := latencySample{}
		if len(samples) > 0 {
			last = samples[len(samples)-1]
		}
		w.Array(4)
		w.BulkString(n)
		w.Int(last.at)
		w.Int(last.ms)
		w.Int(worst)
	}
}

func (s *session) cmdLatencyHistory(args [][]byte) {
	w := s.conn.Out()
	samples, _ := s.srv.latency.series(string(args[2]))
	w.Array(len(samples))
	for _, x := range samples {
		w.Array(2)
		w.Int(x.at)
		w.Int(x.ms)
	}
}

func (s *session) cmdLatencyReset(args [][]byte) {
	var names []string
	for _, a := range args[2:] {
		names = append(names, string(a))
	}
	s.conn.Out().Int(int64(s.srv.latency.reset(names)))
}

func (s *session) cmdLatencyDoctor(_ [][]byte) {
	var b strings.Builder
	limit := s.srv.latency.thresholdMs.Load()
	names := s.srv.latency.names()
	switch {
	case limit == 0:
		b.WriteString("Latency events are not watched. CONFIG SET latency-monitor-threshold <milliseconds> switches that on.\n")
	case len(names) == 0:
		fmt.Fprintf(&b, "No event has taken %d ms or longer.\n", limit)
	default:
		for _, n := range names {
			samples, worst := s.srv.latency.series(n)
			var sum int64
			for _, x := range samples {
				sum += x.ms
			}
			fmt.Fprintf(&b, "%s: %d samples, %d ms on average, %d ms at worst.\n", n, len(samples), sum/int64(max(1, len(samples))), worst)
		}
	}
	st := s.engineStats(false)
	fmt.Fprintf(&b, "The longest hold of the executor lock was %d us, the last checkpoint took %d ms.\n",
		st.MaxHold.Microseconds(), st.Checkpoint.Took.Milliseconds())
	s.conn.Out().Verbatim("txt", b.String())
}

func (s *session) cmdLatencyGraph(args [][]byte) {
	w := s.conn.Out()
	event := string(args[2])
	samples, worst := s.srv.latency.series(event)
	if len(samples) == 0 {
		w.Error(oneLine(fmt.Sprintf("ERR No samples available for event '%s'", cString(args[2]))))
		return
	}
	w.Verbatim("txt", latencyGraph(event, samples, worst, time.Now().Unix()))
}

func (s *session) cmdLatencyHistogram(args [][]byte) {
	w := s.conn.Out()
	counters, _ := s.srv.stats.snapshot()
	var rows []*command.Spec
	if len(args) == 2 {
		eachRow(s.srv.table, func(spec *command.Spec) { rows = append(rows, spec) })
	} else {
		for _, name := range args[2:] {
			if spec := s.named(name); spec != nil {
				rows = append(rows, spec)
				for i := range spec.Subcommands {
					rows = append(rows, &spec.Subcommands[i])
				}
			}
		}
	}
	d := w.DeferMap()
	n := 0
	for _, spec := range rows {
		c := &counters[spec.ID]
		if c.times == nil || c.times.total == 0 {
			continue
		}
		n++
		w.BulkString(spec.FullName)
		w.Map(2)
		w.BulkString("calls")
		w.Int(c.times.total)
		w.BulkString("histogram_usec")
		bounds, counts := c.times.cumulative()
		w.Map(len(bounds))
		for i := range bounds {
			w.Int(bounds[i])
			w.Int(counts[i])
		}
	}
	w.Patch(d, n)
}

// --- MEMORY

func (s *session) cmdMemoryDoctor(_ [][]byte) {
	st := s.engineStats(false)
	m := readMemory()
	var b strings.Builder
	fmt.Fprintf(&b, "The data in memory takes %s of %s of heap; the process takes %s.\n",
		humanBytes(st.UsedBytes), humanBytes(m.heap), humanBytes(m.rss))
	if limit := s.srv.cfg.Int("maxmemory"); limit > 0 {
		fmt.Fprintf(&b, "The budget is %s; keys beyond it are read from disk when they are asked for (%d so far).\n",
			humanBytes(limit), st.ColdLoads)
	} else {
		b.WriteString("There is no budget (maxmemory 0): all data stays in memory.\n")
	}
	if st.BackPressure > 0 {
		fmt.Fprintf(&b, "%d writes have waited for a checkpoint: a larger dirty-bytes-limit or a faster disk would help.\n", st.BackPressure)
	}
	s.conn.Out().Verbatim("txt", b.String())
}

func (s *session) cmdMemoryMallocStats(_ [][]byte) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.conn.Out().Verbatim("txt", fmt.Sprintf("heap_alloc:%d\nheap_sys:%d\nheap_idle:%d\nheap_inuse:%d\nheap_released:%d\n"+
		"heap_objects:%d\nstack_inuse:%d\ngc_sys:%d\ntotal_alloc:%d\nmallocs:%d\nfrees:%d\ngc_cycles:%d\ngc_pause_total_ns:%d\n",
		m.HeapAlloc, m.HeapSys, m.HeapIdle, m.HeapInuse, m.HeapReleased, m.HeapObjects, m.StackInuse, m.GCSys,
		m.TotalAlloc, m.Mallocs, m.Frees, m.NumGC, m.PauseTotalNs))
}

func (s *session) cmdMemoryPurge(_ [][]byte) {
	debug.FreeOSMemory()
	s.conn.Out().OK()
}

func (s *session) cmdMemoryStats(_ *command.Spec, _ [][]byte) outcome {
	if s.makeCountable() == again {
		return again
	}
	w := s.conn.Out()
	st := s.engineStats(true)
	m := readMemory()
	keys := 0
	for _, db := range st.DBs {
		keys += db.Keys
	}
	perKey := int64(0)
	if keys > 0 {
		perKey = st.UsedBytes / int64(keys)
	}
	ints := []struct {
		name string
		v    int64
	}{
		{"peak.allocated", s.srv.memPeak(m.heap)}, {"total.allocated", m.heap}, {"startup.allocated", s.srv.startHeap},
		{"replication.backlog", 0}, {"clients.slaves", 0}, {"clients.normal", s.srv.clientBytes()},
		{"overhead.total", max(0, m.heap-st.UsedBytes)}, {"keys.count", int64(keys)}, {"keys.bytes-per-key", perKey},
		{"dataset.bytes", st.UsedBytes}, {"dirty.bytes", st.DirtyBytes}, {"dirty.objects", st.DirtyObjects},
		{"allocator.allocated", m.heap}, {"allocator.active", m.heapInUse}, {"allocator.resident", m.rss},
	}
	w.Map(len(ints) + 2)
	for _, f := range ints {
		w.BulkString(f.name)
		w.Int(f.v)
	}
	w.BulkString("dataset.percentage")
	w.Double(percentOf(st.UsedBytes, m.heap))
	w.BulkString("fragmentation")
	w.Double(ratio(m.rss, m.heap))
	return done
}

func percentOf(part, whole int64) float64 { return 100 * ratio(part, whole) }

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// sleep waits for d, or without end, or until ctx is done.
func sleep(ctx context.Context, d time.Duration, forever bool) {
	if forever {
		<-ctx.Done()
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *session) cmdLolwut(args [][]byte) {
	if len(args) > 2 && isWord(args[1], "version") {
		if _, ok := command.ParseInt(args[2]); !ok {
			s.conn.Out().Error(reply.NotInt)
			return
		}
	}
	const art = "   .-----------.\n   |  .-----.  |\n   |  | [ ] |  |\n   |  '-----'  |\n   '-----------'\n"
	s.conn.Out().Verbatim("txt", art+"Holdfast "+Version+" (Redis ver. "+redisVersion+")\n")
}

// --- data commands run on behalf of a session command

// query runs a data command for this session and returns its reply in RESP2. REQUIRES: off the loop, or within a transaction.
func (s *session) query(args ...string) ([]byte, error) {
	argv := make([][]byte, len(args))
	for i, a := range args {
		argv[i] = []byte(a)
	}
	spec := s.srv.table.Lookup(argv[0])
	if len(spec.Subcommands) > 0 {
		spec = spec.Sub(argv[1])
	}
	var w reply.Writer
	if s.locked {
		s.eng.RunInside(s.cl, spec, argv, &w)
		return w.Bytes(), nil
	}
	for {
		s.eng.Lock()
		st := s.eng.Run(s.cl, spec, argv, &w)
		s.eng.Unlock()
		switch st {
		case engine.StatusDone:
			return w.Bytes(), nil
		case engine.StatusBlocked:
			return nil, errors.New("blocked")
		}
		if err := s.prepare(st, spec, argv); err != nil {
			return nil, err
		}
	}
}

// bulkOf returns the payload of a RESP2 bulk string; ok is false for anything else.
func bulkOf(b []byte) (payload []byte, ok bool) {
	if len(b) == 0 || b[0] != '$' {
		return nil, false
	}
	head, rest, found := strings.Cut(string(b[1:]), "\r\n")
	n, err := strconv.Atoi(head)
	if !found || err != nil || n < 0 || len(rest) < n {
		return nil, false
	}
	return []byte(rest[:n]), true
}
