package server

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/pubsub"
)

// INFO: Redis's sections and field names, as far as they mean something here, and a section of our own. To add a
// section, add a row to infoSections.

// infoSection is one section; extra ones are shown only when asked for by name, all or everything.
type infoSection struct {
	name  string
	title string
	extra bool
	write func(*infoWriter)
}

var infoSections = []infoSection{
	{name: "server", title: "Server", write: infoServer},
	{name: "clients", title: "Clients", write: infoClients},
	{name: "memory", title: "Memory", write: infoMemory},
	{name: "persistence", title: "Persistence", write: infoPersistence},
	{name: "stats", title: "Stats", write: infoStats},
	{name: "replication", title: "Replication", write: infoReplication},
	{name: "cpu", title: "CPU", write: infoCPU},
	{name: "modules", title: "Modules", write: func(*infoWriter) {}},
	{name: "commandstats", title: "Commandstats", extra: true, write: infoCommandStats},
	{name: "errorstats", title: "Errorstats", write: infoErrorStats},
	{name: "latencystats", title: "Latencystats", extra: true, write: infoLatencyStats},
	{name: "cluster", title: "Cluster", write: func(i *infoWriter) { i.field("cluster_enabled", 0) }},
	{name: "keyspace", title: "Keyspace", write: infoKeyspace},
	{name: "holdfast", title: "Holdfast", write: infoHoldfast},
}

// infoWriter gathers the text of INFO.
type infoWriter struct {
	b   strings.Builder
	srv *Server
	st  engine.Stats
	now time.Time
	mem memoryFigures
	// Look-ups of reading commands that found their key, and that did not.
	hits, misses int64
	tracking     struct{ clients, keys, items, prefixes int64 }
}

func (i *infoWriter) field(name string, v any) { fmt.Fprintf(&i.b, "%s:%v\r\n", name, v) }

func (i *infoWriter) bytes(name string, n int64) {
	i.field(name, n)
	i.field(name+"_human", humanBytes(n))
}

// flag prints a bool as 0 or 1.
func (i *infoWriter) flag(name string, v bool) {
	if v {
		i.field(name, 1)
	} else {
		i.field(name, 0)
	}
}

func (s *session) cmdInfo(_ *command.Spec, args [][]byte) outcome {
	want := map[string]bool{}
	extras := false
	if len(args) == 1 {
		want["default"] = true
	}
	for _, a := range args[1:] {
		want[strings.ToLower(string(a))] = true
	}
	if want["all"] || want["everything"] {
		want["default"], extras = true, true
	}
	counted := want["keyspace"] || want["default"]
	if counted && s.makeCountable() == again {
		return again
	}
	i := &infoWriter{srv: s.srv, st: s.engineStats(counted), now: time.Now(), mem: readMemory()}
	s.withLock(func() {
		i.hits, i.misses = s.eng.Keyspace().Hits, s.eng.Keyspace().Misses
		t := s.srv.tracker
		i.tracking.clients, i.tracking.keys = int64(len(t.clients)), int64(len(t.keys))
		i.tracking.items, i.tracking.prefixes = t.items, int64(len(t.bcast))
	})
	first := true
	for _, sec := range infoSections {
		if !want[sec.name] && !(want["default"] && (extras || !sec.extra)) {
			continue
		}
		if !first {
			i.b.WriteString("\r\n")
		}
		first = false
		i.b.WriteString("# " + sec.title + "\r\n")
		sec.write(i)
	}
	s.conn.Out().Verbatim("txt", i.b.String())
	return done
}

// engineStats asks the engine, within a transaction under its hold of the lock. If not counted, keys that were written blind may count
// twice.
func (s *session) engineStats(counted bool) engine.Stats {
	switch {
	case counted && s.locked:
		return s.eng.CountedStatsLocked()
	case counted:
		return s.eng.CountedStats()
	case s.locked:
		return s.eng.StatsLocked()
	}
	return s.eng.Stats()
}

// makeCountable has the engine look up what was written blind, if that is much; it answers again where that cannot be waited for.
func (s *session) makeCountable() outcome {
	if s.locked {
		return done
	}
	many := false
	s.withLock(func() { many = s.eng.ManyBlind() })
	if many && !s.offLoop {
		return again
	}
	if many {
		if err := s.eng.LookUpBlind(s.ctx); err != nil && s.ctx.Err() == nil {
			s.srv.log.Error("keys could not be counted exactly", "error", err)
		}
	}
	return done
}

func infoServer(i *infoWriter) {
	var u unix.Utsname
	osName := runtime.GOOS
	if err := unix.Uname(&u); err == nil {
		osName = fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]),
			unix.ByteSliceToString(u.Machine[:]))
	}
	up := int64(i.now.Sub(i.srv.started).Seconds())
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	i.field("redis_version", redisVersion)
	i.field("redis_git_sha1", "00000000")
	i.field("redis_git_dirty", 0)
	i.field("redis_build_id", buildID())
	i.field("redis_mode", "standalone")
	i.field("os", osName)
	i.field("arch_bits", strconv.IntSize)
	i.field("monotonic_clock", "POSIX clock_gettime")
	i.field("multiplexing_api", multiplexing)
	i.field("process_id", os.Getpid())
	i.field("process_supervised", i.srv.cfg.Text("supervised"))
	i.field("run_id", i.srv.eng.RunID())
	i.field("tcp_port", i.srv.Port())
	i.field("server_time_usec", i.now.UnixMicro())
	i.field("uptime_in_seconds", up)
	i.field("uptime_in_days", up/86400)
	i.field("hz", i.srv.cfg.Int("hz"))
	i.field("configured_hz", i.srv.cfg.Int("hz"))
	i.field("lru_clock", i.now.Unix()&(1<<24-1))
	i.field("executable", exe)
	i.field("config_file", i.srv.cfg.File())
	i.flag("io_threads_active", i.srv.cfg.Int("io-threads") > 1)
}

func infoClients(i *infoWriter) {
	var in, out int64
	all := i.srv.clients.all()
	for _, c := range all {
		_, size := c.conn.QueryBuffer()
		pending, _ := c.conn.OutputPending()
		in, out = max(in, size), max(out, pending)
	}
	i.field("connected_clients", len(all))
	i.field("cluster_connections", 0)
	i.field("maxclients", i.srv.cfg.Int("maxclients"))
	i.field("client_recent_max_input_buffer", in)
	i.field("client_recent_max_output_buffer", out)
	i.field("blocked_clients", i.st.Blocked)
	i.field("tracking_clients", i.tracking.clients)
	i.field("clients_in_timeout_table", i.st.BlockedFor)
}

// memoryFigures are bytes.
type memoryFigures struct {
	heap      int64 // live and not yet collected objects
	heapInUse int64
	rss       int64
	system    int64
}

func readMemory() (m memoryFigures) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(samples)
	m.heap = int64(samples[0].Value.Uint64())
	m.heapInUse = m.heap + int64(samples[1].Value.Uint64())
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				m.rss = pages * int64(os.Getpagesize())
			}
		}
	}
	m.system = systemMemory()
	return m
}

// readHeap returns the bytes of heap in use, cheaply.
func readHeap() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64())
}

func infoMemory(i *infoWriter) {
	m := i.mem
	limit := i.srv.cfg.Int("maxmemory")
	peak := i.srv.memPeak(m.heap)
	i.bytes("used_memory", m.heap)
	i.bytes("used_memory_rss", m.rss)
	i.bytes("used_memory_peak", peak)
	i.field("used_memory_peak_perc", fmt.Sprintf("%.2f%%", percentOf(m.heap, peak)))
	i.field("used_memory_overhead", max(0, m.heap-i.st.UsedBytes))
	i.field("used_memory_startup", i.srv.startHeap)
	i.field("used_memory_dataset", i.st.UsedBytes)
	i.field("used_memory_dataset_perc", fmt.Sprintf("%.2f%%", percentOf(i.st.UsedBytes, m.heap)))
	i.field("allocator_allocated", m.heap)
	i.field("allocator_active", m.heapInUse)
	i.field("allocator_resident", m.rss)
	i.bytes("total_system_memory", m.system)
	i.bytes("maxmemory", limit)
	i.field("maxmemory_policy", i.srv.cfg.Text("maxmemory-policy"))
	i.field("mem_fragmentation_ratio", fmt.Sprintf("%.2f", ratio(m.rss, m.heap)))
	i.field("mem_fragmentation_bytes", m.rss-m.heap)
	i.field("mem_not_counted_for_evict", 0)
	i.field("mem_replication_backlog", 0)
	i.field("mem_total_replication_buffers", 0)
	i.field("mem_clients_slaves", 0)
	i.field("mem_clients_normal", i.srv.clientBytes())
	i.field("mem_allocator", "go-"+strings.TrimPrefix(runtime.Version(), "go"))
	i.field("lazyfree_pending_objects", 0)
}

// infoPersistence shows checkpoints where Redis shows RDB files, and the log where it shows the AOF.
func infoPersistence(i *infoWriter) {
	c := i.st.Checkpoint
	status := "ok"
	if c.Err != nil {
		status = "err"
	}
	took := int64(-1)
	if c.Count > 0 {
		took = int64(c.Took.Seconds())
	}
	current := int64(-1)
	if !c.Begun.IsZero() {
		current = int64(i.now.Sub(c.Begun).Seconds())
	}
	writeStatus := "ok"
	if i.srv.eng.WriteError() != "" {
		writeStatus = "err"
	}
	i.field("loading", 0)
	i.field("async_loading", 0)
	i.field("current_cow_size", i.st.Freezing.Bytes)
	i.field("rdb_changes_since_last_save", i.st.DirtyObjects)
	i.flag("rdb_bgsave_in_progress", c.Running)
	i.field("rdb_last_save_time", c.End.Unix())
	i.field("rdb_last_bgsave_status", status)
	i.field("rdb_last_bgsave_time_sec", took)
	i.field("rdb_current_bgsave_time_sec", current)
	i.field("rdb_saves", c.Count)
	i.field("rdb_last_cow_size", c.Frozen.Bytes)
	i.field("aof_enabled", 1)
	i.field("aof_rewrite_in_progress", 0)
	i.field("aof_rewrite_scheduled", 0)
	i.field("aof_last_bgrewrite_status", "ok")
	i.field("aof_last_write_status", writeStatus)
	i.field("aof_current_size", int64(i.st.End-i.st.First))
	i.field("aof_base_size", int64(max(0, c.Offset-i.st.First)))
	i.field("aof_buffer_length", int64(i.st.End-i.st.Durable))
}

func infoStats(i *infoWriter) {
	calls, failed := i.srv.stats.totals()
	n := i.srv.netStats()
	i.field("total_connections_received", n.Accepted)
	i.field("total_commands_processed", calls)
	i.field("instantaneous_ops_per_sec", int64(i.srv.rates.get(rateCommands)))
	i.field("total_net_input_bytes", n.In)
	i.field("total_net_output_bytes", n.Out)
	i.field("total_net_repl_input_bytes", n.ReplIn)
	i.field("total_net_repl_output_bytes", n.ReplOut)
	i.field("instantaneous_input_kbps", fmt.Sprintf("%.2f", i.srv.rates.get(rateInput)/1024))
	i.field("instantaneous_output_kbps", fmt.Sprintf("%.2f", i.srv.rates.get(rateOutput)/1024))
	i.field("instantaneous_input_repl_kbps", fmt.Sprintf("%.2f", i.srv.rates.get(rateReplInput)/1024))
	i.field("instantaneous_output_repl_kbps", fmt.Sprintf("%.2f", i.srv.rates.get(rateReplOutput)/1024))
	i.field("rejected_connections", n.Rejected)
	syncs := i.srv.repl.primary.Stats()
	i.field("sync_full", syncs.SyncFull)
	i.field("sync_partial_ok", syncs.SyncPartialOK)
	i.field("sync_partial_err", syncs.SyncPartialErr)
	i.field("expired_subkeys", i.st.ExpiredFields)
	i.field("expired_keys", i.st.Expired)
	i.field("expired_stale_perc", fmt.Sprintf("%.2f", i.st.Expiry.StalePercent))
	i.field("expired_time_cap_reached_count", i.st.Expiry.Capped)
	i.field("expire_cycle_cpu_milliseconds", i.st.Expiry.Time.Milliseconds())
	i.field("evicted_keys", i.st.Evicted)
	i.field("evicted_clients", 0)
	i.field("total_eviction_exceeded_time", i.st.OverBudget.Milliseconds())
	i.field("current_eviction_exceeded_time", i.st.OverNow.Milliseconds())
	i.field("keyspace_hits", i.hits)
	i.field("keyspace_misses", i.misses)
	i.field("pubsub_channels", i.srv.hub.Topics(pubsub.Channel))
	i.field("pubsub_patterns", i.srv.hub.Topics(pubsub.Pattern))
	i.field("pubsubshard_channels", i.srv.hub.Topics(pubsub.Shard))
	i.field("latest_fork_usec", 0)
	i.field("total_forks", 0)
	i.field("migrate_cached_sockets", 0)     // there is no MIGRATE,
	i.field("slave_expires_tracked_keys", 0) // no replica that is written to,
	for _, of := range []string{"hits", "misses", "key_hits", "key_misses"} {
		i.field("active_defrag_"+of, 0) // and nothing that defragments
	}
	i.field("total_active_defrag_time", 0)
	i.field("current_active_defrag_time", 0)
	i.field("tracking_total_keys", i.tracking.keys)
	i.field("tracking_total_items", i.tracking.items)
	i.field("tracking_total_prefixes", i.tracking.prefixes)
	i.field("unexpected_error_replies", 0)
	i.field("total_error_replies", failed)
	i.field("dump_payload_sanitizations", i.st.Verified)
	i.field("total_reads_processed", n.Reads)
	i.field("total_writes_processed", n.Writes)
	i.field("io_threaded_reads_processed", 0) // event loops read, and execute what they have read
	i.field("io_threaded_writes_processed", 0)
	i.field("reply_buffer_shrinks", n.Shrinks)
	i.field("reply_buffer_expands", n.Expands)
}

// resetLookups sets the counts of look-ups to 0. REQUIRES: the executor lock.
func (s *Server) resetLookups() {
	ks := s.eng.Keyspace()
	ks.Hits, ks.Misses = 0, 0
}

func infoCPU(i *infoWriter) {
	for _, w := range []struct {
		suffix string
		who    int
	}{{"", unix.RUSAGE_SELF}, {"_children", unix.RUSAGE_CHILDREN}} {
		var r unix.Rusage
		if err := unix.Getrusage(w.who, &r); err != nil {
			continue
		}
		i.field("used_cpu_sys"+w.suffix, fmt.Sprintf("%d.%06d", r.Stime.Sec, r.Stime.Usec))
		i.field("used_cpu_user"+w.suffix, fmt.Sprintf("%d.%06d", r.Utime.Sec, r.Utime.Usec))
	}
}

func infoCommandStats(i *infoWriter) {
	counters, _ := i.srv.stats.snapshot()
	eachRow(i.srv.table, func(spec *command.Spec) {
		c := &counters[spec.ID]
		if c.calls == 0 && c.rejected == 0 && c.failed == 0 {
			return
		}
		usec := c.nanos / 1000
		perCall := 0.0
		if c.calls > 0 {
			perCall = float64(c.nanos) / 1000 / float64(c.calls)
		}
		i.field("cmdstat_"+spec.FullName, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			c.calls, usec, perCall, c.rejected, c.failed))
	})
}

func infoErrorStats(i *infoWriter) {
	_, errs := i.srv.stats.snapshot()
	names := make([]string, 0, len(errs))
	for n := range errs {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		i.field("errorstat_"+n, fmt.Sprintf("count=%d", errs[n]))
	}
}

func infoLatencyStats(i *infoWriter) {
	counters, _ := i.srv.stats.snapshot()
	ps := percentiles(i.srv.cfg.Text("latency-tracking-info-percentiles"))
	eachRow(i.srv.table, func(spec *command.Spec) {
		h := counters[spec.ID].times
		if h == nil || h.total == 0 {
			return
		}
		var parts []string
		for _, p := range ps {
			parts = append(parts, fmt.Sprintf("p%s=%.3f", strconv.FormatFloat(p, 'g', -1, 64), float64(h.percentile(p))/1000))
		}
		i.field("latency_percentiles_usec_"+spec.FullName, strings.Join(parts, ","))
	})
}

func infoKeyspace(i *infoWriter) {
	for n, db := range i.st.DBs {
		if db.Keys > 0 {
			line := fmt.Sprintf("keys=%d,expires=%d,avg_ttl=0", db.Keys, db.Expires)
			if db.Timed > 0 {
				line += fmt.Sprintf(",subexpiry=%d", db.Timed)
			}
			i.field("db"+strconv.Itoa(n), line)
		}
	}
}

// infoHoldfast is what Redis has no name for.
func infoHoldfast(i *infoWriter) {
	st := i.st
	resident := 0
	for _, db := range st.DBs {
		resident += db.Resident
	}
	i.field("holdfast_version", Version)
	i.field("log_first_offset", int64(st.First))
	i.field("log_durable_offset", int64(st.Durable))
	i.field("log_end_offset", int64(st.End))
	i.field("log_syncs", st.Log.Syncs)
	i.field("log_sync_usec_avg", st.Log.SyncTime.Microseconds()/max(1, st.Log.Syncs))
	i.field("log_sync_usec_max", st.Log.SyncMax.Microseconds())
	i.field("log_appends", st.Log.Appends)
	i.field("log_stalls", st.Log.Stalls)
	i.field("log_size_on_disk", st.Log.DiskSize)
	i.field("checkpoint_offset", int64(st.Checkpoint.Offset))
	i.flag("checkpoint_running", st.Checkpoint.Running)
	i.field("checkpoint_last_ms", st.Checkpoint.Took.Milliseconds())
	i.field("checkpoint_last_objects", st.Checkpoint.Objects)
	i.field("checkpoint_last_rows", st.Checkpoint.Rows)
	i.field("checkpoint_last_bytes", st.Checkpoint.Bytes)
	i.field("checkpoint_last_frozen_objects", st.Checkpoint.Frozen.Objects)
	i.field("checkpoint_last_frozen_bytes", st.Checkpoint.Frozen.Bytes)
	i.field("checkpoint_max_hold_usec", st.Checkpoint.MaxHold.Microseconds())
	i.field("checkpoint_max_hold_step", st.Checkpoint.MaxStep)
	i.field("checkpoint_max_hold_cpu_usec", st.Checkpoint.MaxCPU.Microseconds())
	i.field("checkpoint_failures", st.Checkpoint.Failed)
	i.field("resident_keys", resident)
	i.field("resident_bytes", st.UsedBytes)
	i.field("resident_budget", st.Budget)
	i.field("dirty_objects", st.DirtyObjects)
	i.field("dirty_bytes", st.DirtyBytes)
	i.field("cold_loads", st.ColdLoads)
	i.field("cold_loads_in_lock", st.ColdInLock)
	i.field("unloaded_keys", st.Unloaded)
	i.field("back_pressure_waits", st.BackPressure)
	i.field("executor_max_hold_usec", st.MaxHold.Microseconds())
	i.flag("preload_in_progress", st.Preloading)
	i.flag("disk_full", st.DiskFull)
	free, total := i.srv.diskWatch.room()
	i.field("disk_free_bytes", free)
	i.field("disk_total_bytes", total)
	i.field("log_held_by", i.srv.diskWatch.heldBy(i.srv.cfg.Int("repl-log-max-age") > 0))
	i.field("sync_full_chosen", i.srv.repl.primary.Stats().SyncChosen)
	i.srv.verifying.info(i)
	for n, sl := range i.srv.eng.Slots() {
		i.field("slot"+strconv.Itoa(n), slotLine(sl, i.now))
	}
}

// humanBytes prints an amount of bytes as Redis does.
func humanBytes(n int64) string {
	units := []string{"K", "M", "G", "T", "P"}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + "B"
	}
	f := float64(n)
	u := -1
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return fmt.Sprintf("%.2f%s", f, units[u])
}

// buildID identifies the build: the revision of the source, if the build knew it.
func buildID() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, kv := range info.Settings {
			if kv.Key == "vcs.revision" && len(kv.Value) >= 16 {
				return kv.Value[:16]
			}
		}
	}
	return "0000000000000000"
}
