//go:build !race

package pool

const histories = "40000"
