package engine

import (
	"slices"
	"sync"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/wal"
)

// prefetchMin is the number of cold keys from which they are read by two goroutines: below it, starting them costs more
// than it saves.
const prefetchMin = 64

// prefetch loads the cold keys that a piece of the log names, in the order of the store's rows, so that what would be
// random reads in the order of the log becomes a walk. What it returns stays pinned until the piece has been applied.
// Keys that it cannot know beforehand, or that could not be read, are read when they are needed.
func (e *Engine) prefetch(data []byte, dbIndex int) []pin {
	if !e.anyCold() {
		return nil
	}
	var loads []*keyspace.Loading
	for len(data) > 0 {
		args, n, err := wal.ReadRecord(data)
		if err != nil || n == 0 {
			break // whoever applies it meets the same
		}
		data = data[n:]
		if len(args) == 2 && string(args[0]) == "SELECT" {
			if i, ok := command.ParseInt(args[1]); ok && i >= 0 && int(i) < e.ks.NumDBs() {
				dbIndex = int(i)
			}
			continue
		}
		spec := e.table.Lookup(args[0])
		if spec == nil || !spec.ArityOK(len(args)) {
			continue
		}
		db := e.ks.DB(dbIndex)
		spec.EachKey(args, func(i int) {
			if db.Residency(args[i]) == keyspace.Cold {
				loads = append(loads, db.BeginLoad(args[i]))
			}
		})
	}
	slices.SortFunc(loads, func(a, b *keyspace.Loading) int {
		switch {
		case a.Less(b):
			return -1
		case b.Less(a):
			return 1
		}
		return 0
	})
	loads = slices.CompactFunc(loads, (*keyspace.Loading).Same)
	e.readAll(loads)
	var pins []pin
	for _, l := range loads {
		if l.Failed() {
			continue
		}
		if o, ok := l.Install(); ok && o != nil {
			pins = append(pins, pin{l, o})
		}
	}
	return pins
}

func (e *Engine) readAll(loads []*keyspace.Loading) {
	read := func(part []*keyspace.Loading) {
		for _, l := range part {
			_ = l.Read(e.rows, e.opts.Limits) // kept in l; Failed tells
		}
	}
	if len(loads) < prefetchMin {
		read(loads)
		return
	}
	var wg sync.WaitGroup
	half := len(loads) / 2
	wg.Go(func() { read(loads[:half]) })
	read(loads[half:])
	wg.Wait()
}
