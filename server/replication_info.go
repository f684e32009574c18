package server

import (
	"fmt"
	"strings"

	"github.com/holdfast-db/holdfast/replication"
)

// infoReplication is the section that Sentinel, exporters and operators read: Redis's fields in Redis's order. What it says of
// the backlog is the truth of the log on disk.
func infoReplication(i *infoWriter) {
	r := &i.srv.repl
	cfg := i.srv.cfg
	t := r.following.Load()
	if t == nil {
		i.field("role", "master")
	} else {
		infoLink(i, t, r.replica.Status())
	}
	replicas := r.primary.Replicas()
	i.field("connected_slaves", len(replicas))
	if cfg.Int("min-replicas-to-write") > 0 && cfg.Int("min-replicas-max-lag") > 0 {
		i.field("min_slaves_good_slaves", r.primary.GoodReplicas())
	}
	n := 0
	for _, c := range replicas {
		if c.IP == "" {
			continue
		}
		lag := int64(0)
		if c.State == replication.StateOnline && !c.Old {
			lag = int64(c.Lag.Seconds())
		}
		line := fmt.Sprintf("ip=%s,port=%d,state=%s,offset=%d,lag=%d", c.IP, c.Port, c.State, int64(c.Ack), lag)
		if c.Fack >= 0 {
			line += fmt.Sprintf(",durable=%d", int64(c.Fack))
		}
		if c.Name != "" {
			line += ",name=" + c.Name
		}
		if c.State != replication.StateOnline {
			line += fmt.Sprintf(",sync_sent=%d,sync_had=%d,sync_total=%d", c.Snapshot, c.Had, c.Total)
		}
		i.field(fmt.Sprintf("slave%d", n), line)
		n++
	}
	i.field("master_failover_state", r.failover.state())
	i.field("master_replid", i.st.ReplID)
	replid2, second := strings.Repeat("0", 40), int64(-1)
	if l := i.srv.eng.Log().Lineage(); len(l) > 1 {
		replid2, second = l[len(l)-2].ID, int64(l[len(l)-2].End)+1
	}
	i.field("master_replid2", replid2)
	i.field("master_repl_offset", int64(i.st.End))
	i.field("second_repl_offset", second)
	i.field("repl_backlog_active", 1)
	i.field("repl_backlog_size", int64(i.st.End-i.st.First))
	i.field("repl_backlog_first_byte_offset", int64(i.st.First)+1)
	i.field("repl_backlog_histlen", int64(i.st.End-i.st.First))
}

// infoLink is what a replica tells of the link to its primary.
func infoLink(i *infoWriter, t *replication.Target, st replication.ReplicaStatus) {
	cfg := i.srv.cfg
	ago := func() int64 {
		if st.LastIO.IsZero() {
			return -1
		}
		return int64(max(0, i.now.Sub(st.LastIO)).Seconds())
	}
	up, syncing := st.State == replication.Connected, st.State == replication.Syncing
	i.field("role", "slave")
	i.field("master_host", t.Host)
	i.field("master_port", t.Port)
	if up {
		i.field("master_link_status", "up")
		i.field("master_last_io_seconds_ago", ago())
	} else {
		i.field("master_link_status", "down")
		i.field("master_last_io_seconds_ago", -1)
	}
	i.flag("master_sync_in_progress", syncing)
	read := st.Read
	if !up {
		read = st.Applied
	}
	i.field("slave_read_repl_offset", int64(read))
	i.field("slave_repl_offset", int64(st.Applied))
	if syncing {
		total, left, perc := max(st.SyncTotal, 0), int64(0), 0.0
		if total > 0 {
			left, perc = total-st.SyncRead, 100*float64(st.SyncRead)/float64(total)
		}
		i.field("master_sync_total_bytes", total)
		i.field("master_sync_read_bytes", st.SyncRead)
		i.field("master_sync_left_bytes", left)
		i.field("master_sync_perc", fmt.Sprintf("%.2f", perc))
		i.field("master_sync_last_io_seconds_ago", ago())
	}
	if !up {
		down := int64(-1)
		if !st.DownSince.IsZero() {
			down = int64(max(0, i.now.Sub(st.DownSince)).Seconds())
		}
		i.field("master_link_down_since_seconds", down)
		if st.Err != nil {
			i.field("master_link_error", oneLine(st.Err.Error()))
		}
	}
	i.field("slave_priority", cfg.Int("replica-priority"))
	i.field("slave_read_only", 1)
	i.flag("replica_announced", cfg.Bool("replica-announced"))
}
