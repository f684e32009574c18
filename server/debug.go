package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// debugInside tells whether a DEBUG can run within a transaction under its hold of the lock.
func debugInside(_ *session, args [][]byte) bool {
	for _, sub := range []string{"reload", "loadaof", "checkpoint"} {
		if isWord(args[1], sub) {
			return false
		}
	}
	return true
}

// cmdDebug is DEBUG. It runs off the loop.
func (s *session) cmdDebug(args [][]byte) {
	w := s.conn.Out()
	sub := strings.ToLower(string(args[1]))
	switch {
	case sub == "help":
		s.cmdHelp(args)
	case sub == "sleep" && len(args) == 3:
		sec, err := strconv.ParseFloat(string(args[2]), 64)
		if err != nil || !(sec >= 0) {
			sec = 0 // no number, and no time to go back: Redis does not wait either
		}
		sec = min(sec, maxDebugSleep.Seconds())
		// Every command waits, as if the server were busy: the lock is held, as with a slow command.
		s.withLock(func() { sleep(s.ctx, time.Duration(sec*float64(time.Second)), false) })
		w.OK()
	case sub == "set-active-expire" && len(args) == 3:
		s.eng.SetActiveExpire(string(args[2]) != "0")
		w.OK()
	case sub == "object" && len(args) >= 3:
		s.debugObject(string(args[2]))
	case sub == "digest" && len(args) == 2:
		var sum [20]byte
		s.withLock(func() { sum = s.eng.RedisDigest() })
		w.Simple(fmt.Sprintf("%x", sum))
	case sub == "digest-value" && len(args) >= 2:
		s.debugDigestValue(args[2:])
	case sub == "reload":
		save := true
		for _, a := range args[2:] {
			switch {
			case isWord(a, "nosave"):
				save = false
			case isWord(a, "merge"), isWord(a, "noflush"): // what is loaded is what is there
			default:
				w.Error("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
				return
			}
		}
		s.reload(save)
	case sub == "loadaof" && len(args) == 2:
		s.reload(false)
	case sub == "checkpoint" && len(args) == 2:
		if err := s.eng.Checkpoint(s.ctx); err != nil {
			w.Error("ERR " + err.Error())
			return
		}
		w.OK()
	case sub == "unload" && len(args) == 2:
		s.withLock(func() { w.Int(int64(s.eng.UnloadAllLocked())) })
	case sub == "plant" && len(args) > 2:
		if err := s.eng.Plant(s.cl.DB, args[2:]); err != nil {
			w.Error("ERR " + oneLine(err.Error()))
			return
		}
		w.OK()
	default:
		w.Error(fmt.Sprintf(reply.SubcommandSyntaxF, cString(args[1]), "DEBUG"))
	}
}

// debugDigestValue is DEBUG DIGEST-VALUE: a digest for each key, zeros for one that does not exist.
func (s *session) debugDigestValue(keys [][]byte) {
	w := s.conn.Out()
	w.Array(len(keys))
	for _, key := range keys {
		// EXISTS reads the key if it is on disk.
		if _, err := s.query("exists", string(key)); err != nil {
			s.failed(w, err)
			return
		}
		var sum [20]byte
		s.withLock(func() {
			if o := s.eng.DB(s.cl.DB).Get(key); o != nil {
				sum = command.ValueDigest(o)
			}
		})
		w.Simple(fmt.Sprintf("%x", sum))
	}
}

// maxDebugSleep bounds DEBUG SLEEP: a typing error must not hold the server back for years.
const maxDebugSleep = 1e6 * time.Second

// reload forgets memory and recovers, with checkpoint after one has been taken: else all that came after the last is replayed.
func (s *session) reload(checkpoint bool) {
	w := s.conn.Out()
	again := s.eng.Forget
	if checkpoint {
		again = s.eng.Reload
	}
	if err := again(s.ctx); err != nil {
		s.srv.log.Error("reload failed", "error", err)
		w.Error("ERR Error trying to load the RDB dump, check server logs.")
		return
	}
	s.srv.log.Info("data reloaded")
	w.OK()
}

// debugObject is DEBUG OBJECT: the line that Redis prints, with an address that means nothing.
func (s *session) debugObject(key string) {
	w := s.conn.Out()
	dump, err := s.query("dump", key)
	if err != nil {
		s.failed(w, err)
		return
	}
	payload, ok := bulkOf(dump)
	if !ok {
		w.Error(reply.NoSuchKey)
		return
	}
	enc, err := s.query("object", "encoding", key)
	if err != nil {
		s.failed(w, err)
		return
	}
	encoding, ok := bulkOf(enc)
	if !ok {
		w.Error(reply.NoSuchKey) // expired between the two
		return
	}
	idle, err := s.query("object", "idletime", key)
	if err != nil {
		s.failed(w, err)
		return
	}
	seconds, _ := strconv.ParseInt(strings.Trim(string(idle), ":\r\n"), 10, 64) // an LFU policy answers with an error: 0
	const dumpFraming = 1 + 2 + 8                                               // type byte, version and checksum of DUMP
	w.Simple(fmt.Sprintf("Value at:0x0 refcount:1 encoding:%s serializedlength:%d lru:%d lru_seconds_idle:%d",
		encoding, len(payload)-dumpFraming, (time.Now().Unix()-seconds)&(1<<24-1), seconds))
}
