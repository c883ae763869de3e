//go:build race

package pool

const histories = "2000"
