package wal_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfast-db/holdfast/wal"
)

func Example() {
	ctx := context.Background()
	log, err := wal.Open(wal.Options{FS: vfs.NewMem(), Dir: "wal"})
	if err != nil {
		panic(err)
	}
	defer log.Close()
	if err := log.BeginID("0123456789abcdef0123456789abcdef01234567"); err != nil {
		panic(err)
	}

	record := wal.AppendCommand(nil, []byte("SET"), []byte("key"), []byte("value"))
	end := log.Append(record, 0, 0)
	log.Kick()
	if err := log.WaitDurable(ctx, end); err != nil {
		panic(err)
	}

	reader, err := log.NewReader(4) // any byte
	if err != nil {
		panic(err)
	}
	defer reader.Close()
	start, data, err := reader.Next(ctx)
	fmt.Printf("%d of %d: %q %v\n", start, end, data, err)
	// Output: 4 of 33: "$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n" <nil>
}
