package replication

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-db/holdfast/wal"
)

// Request is what a replica has said about itself (REPLCONF) and what it wants (PSYNC or SYNC). The zero value is right for a
// new connection.
type Request struct {
	IP   string // REPLCONF ip-address; empty: the peer's address counts
	Port int    // REPLCONF listening-port
	// EOF: understands `$EOF:` (capa eof). PSYNC2: understands an id behind +CONTINUE (capa psync2).
	EOF, PSYNC2 bool
	// Tables: takes a snapshot as tables (capa holdfast-tables).
	Tables  bool
	Capa    []string // all that it named, also what we do not know
	Version string   // REPLCONF version (Valkey)
	Name    string   // REPLCONF replica-name: the log is kept for it while it is away
	// RDBOnly: wants the snapshot and not the stream. NoData: of the snapshot only functions, of which we have none, or nothing (rdb-filter-only).
	RDBOnly, NoData bool

	Old      bool   // SYNC: no +FULLRESYNC line, and not dropped for its silence
	ID       string // "?" asks for a full sync
	Offset   int64  // 1-based: the first byte it lacks
	Failover bool   // PSYNC … FAILOVER: become a primary first
}

// maxCapa bounds what a connection may name.
const maxCapa = 64

// Texts that peers see, in Redis's words.
const (
	errSyntax       = "ERR syntax error"
	errInteger      = "ERR value is not an integer or out of range"
	errSwitch       = "ERR value is out of range, value must between 0 and 1"
	errLoading      = "LOADING Redis is loading the dataset in memory"
	errNoMasterLink = "NOMASTERLINK Can't SYNC while not connected with my master"
	errFailoverRole = "ERR PSYNC FAILOVER can't be sent to a master."
	errFailoverID   = "ERR PSYNC FAILOVER replid must match my replid."
)

// Replconf takes the arguments of a REPLCONF that comes before PSYNC. It returns the reply: "OK", or an error without its
// '-', or "" where Redis does not reply (ACK and GETACK).
func (q *Request) Replconf(args [][]byte) (reply string, ok bool) {
	if len(args)%2 != 0 {
		return errSyntax, false
	}
	for i := 0; i < len(args); i += 2 {
		value := string(args[i+1])
		switch strings.ToLower(string(args[i])) {
		case "listening-port":
			n, err := strconv.Atoi(value)
			if err != nil {
				return errInteger, false
			}
			q.Port = n
		case "ip-address":
			if len(value) > 255 {
				return fmt.Sprintf("ERR REPLCONF ip-address provided by replica instance is too long: %d bytes", len(value)), false
			}
			q.IP = printable(value)
		case "capa":
			switch value := strings.ToLower(value); value {
			case "eof":
				q.EOF = true
			case "psync2":
				q.PSYNC2 = true
			case capaTables:
				q.Tables = true
			}
			if len(q.Capa) < maxCapa {
				q.Capa = append(q.Capa, printable(value))
			}
		case "rdb-only":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return errInteger, false
			}
			if n != 0 && n != 1 {
				return errSwitch, false
			}
			q.RDBOnly = n == 1
		case "rdb-filter-only":
			for _, f := range strings.Fields(value) {
				if !strings.EqualFold(f, "functions") {
					return "ERR Unsupported rdb-filter-only option: " + printable(f), false
				}
			}
			q.NoData = true // "" filters everything out
		case "version":
			q.Version = printable(value)
		case "replica-name":
			if !validName(value) {
				return errName, false
			}
			q.Name = value
		case "ack", "getack":
			return "", true
		default:
			return "ERR Unrecognized REPLCONF option: " + printable(string(args[i])), false
		}
	}
	return "OK", true
}

// Psync takes the arguments of PSYNC. It returns an error without its '-', or "". What stands behind the third is passed over, as
// in Redis: a peer of another kind may have put something there.
func (q *Request) Psync(args [][]byte) string {
	if len(args) < 2 {
		return "ERR wrong number of arguments for 'psync' command"
	}
	n, err := strconv.ParseInt(string(args[1]), 10, 64)
	if err != nil {
		return errInteger
	}
	q.Old, q.ID, q.Offset = false, string(args[0]), n
	q.Failover = len(args) >= 3 && strings.EqualFold(string(args[2]), "failover")
	return ""
}

// Sync makes the request one of the old kind.
func (q *Request) Sync() { q.Old, q.ID, q.Offset, q.Failover = true, "?", -1, false }

// Standing is what decides whether we can serve replicas at all.
type Standing struct {
	Replica bool   // we are a replica
	LinkUp  bool   // and in step with our primary
	Loading bool   // a data set is being taken over
	ID      string // our current id
}

// Admit says whether the request may be served: refuse is the error without its '-', or "". promote: the request is a
// FAILOVER that names our id, so that we have to become a primary before serving it.
func (q *Request) Admit(s Standing) (promote bool, refuse string) {
	if q.Failover {
		switch {
		case !s.Replica:
			return false, errFailoverRole
		case !strings.EqualFold(q.ID, s.ID):
			return false, errFailoverID
		}
		return true, ""
	}
	switch {
	case s.Loading:
		return false, errLoading
	case s.Replica && !s.LinkUp:
		return false, errNoMasterLink
	}
	return false, ""
}

// parseAck reads a replica's REPLCONF ACK off [FACK off]. fack is -1 if it does not say what it has on disk; ok is false if it is
// another command.
func parseAck(args [][]byte) (ack, fack wal.Offset, ok bool) {
	if len(args) < 3 || !equalFold(args[0], "replconf") || !equalFold(args[1], "ack") {
		return 0, 0, false
	}
	a, err := strconv.ParseInt(string(args[2]), 10, 64)
	if err != nil || a < 0 {
		return 0, 0, false
	}
	fack = -1
	if len(args) >= 5 && equalFold(args[3], "fack") {
		if f, err := strconv.ParseInt(string(args[4]), 10, 64); err == nil && f >= 0 {
			fack = wal.Offset(f)
		}
	}
	return wal.Offset(a), fack, true
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }
