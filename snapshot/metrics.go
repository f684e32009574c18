package snapshot

// Metrics are figures of the store. Bytes and counts are since open where they count events.
type Metrics struct {
	DiskSize      int64 // bytes of all files
	Tables        int64
	Levels        []LevelMetrics // from L0 down
	Ingests       int64
	Ingested      int64 // bytes of ingested tables
	Compacted     int64 // bytes written by compactions
	Compactions   int64
	CompactionsOn int64 // running now
	Paused        bool  // they give way: PauseCompactions
	Debt          int64 // bytes that compactions would have to rewrite to be done
	ReadAmp       int   // tables that a read of a key may have to ask, filters aside
	L0Tables      int64
	CacheHits     int64
	CacheMisses   int64
	CacheSize     int64 // bytes
	FilterHits    int64 // reads of a table that its bloom filter has spared
	FilterMisses  int64
}

// LevelMetrics are figures of one level of the tree.
type LevelMetrics struct {
	Tables int64
	Bytes  int64
}

// Metrics returns figures of the store.
func (s *Store) Metrics() Metrics {
	m := s.db.Metrics()
	paused, _ := s.pause.on()
	out := Metrics{
		DiskSize: int64(m.DiskSpaceUsage()), Ingests: int64(m.Ingest.Count), ReadAmp: m.ReadAmp(),
		Compactions: m.Compact.Count, CompactionsOn: m.Compact.NumInProgress, Debt: int64(m.Compact.EstimatedDebt),
		L0Tables:  m.Levels[0].TablesCount,
		Paused:    paused,
		CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses, CacheSize: m.BlockCache.Size,
		FilterHits: m.Filter.Hits, FilterMisses: m.Filter.Misses,
	}
	for i := range m.Levels {
		l := &m.Levels[i]
		out.Tables += l.TablesCount
		out.Ingested += int64(l.TableBytesIngested)
		out.Compacted += int64(l.TableBytesCompacted)
		out.Levels = append(out.Levels, LevelMetrics{l.TablesCount, l.TablesSize})
	}
	return out
}
