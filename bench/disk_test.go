package bench

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDisk(t *testing.T) {
	name, p50, p99, err := disk(t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, "unknown", name)
	require.Positive(t, p50)
	require.GreaterOrEqual(t, p99, p50)
	_, _, _, err = disk("/no/such/directory")
	require.Error(t, err)
}

func TestMountOf(t *testing.T) {
	const mounts = "/dev/a / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/b /tmp xfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/c /tmpx btrfs rw 0 0\n\n"
	for dir, want := range map[string]string{"/": "ext4 on /dev/a", "/var": "ext4 on /dev/a", "/tmp": "tmpfs on tmpfs", "/tmp/x": "tmpfs on tmpfs", "/tmpx/y": "btrfs on /dev/c"} {
		require.Equal(t, want, mountOf(mounts, dir), dir)
	}
	require.Equal(t, "unknown", mountOf("", "/tmp"))
}
