package masking

// automaton finds all occurrences of a set of patterns in one pass (Aho and Corasick's algorithm). Its
// states are numbered by the number of bytes they stand for, so that the shallow ones, which ordinary
// text visits, come first; those have a complete table of successors. The deep ones, of which long
// secrets make many, keep only their children.
//
// It is immutable and may be shared.
type automaton struct {
	// window is the length of the shortest pattern, and shifts says how far a window can be moved on
	// without passing an occurrence, by the last two bytes in it. They let most of the text be skipped
	// (Wu and Manber's method). Without patterns of at least two bytes there are none.
	window int
	shifts []uint8

	// table holds the successors of the states below dense, 256 for each.
	table []uint32
	dense int32

	depth []int32
	// longest is the length of the longest pattern that ends in a state, 0 if none does.
	longest []int32
	// fail is the state of the longest proper suffix of what a state stands for.
	fail []int32

	// The children of a state are a list: first, then next. byte is what leads to a child.
	first, next []int32
	label       []byte
}

const (
	root int32 = 0
	none int32 = -1

	// maxDense bounds the table to half a MiB.
	maxDense = 512

	// attention marks successors that are more than a step on: a pattern ends there, or they have no
	// table.
	attention uint32 = 1 << 31
)

func newAutomaton(patterns []string) *automaton {
	a := &automaton{}
	a.addState(0, 0)
	ends := map[int32]bool{}
	for _, pattern := range patterns {
		ends[a.addPattern(pattern)] = true
	}
	a = a.inOrder(ends)
	a.link()
	a.fill()
	a.window, a.shifts = newShifts(patterns)
	return a
}

// shiftBits is how much of each of two bytes counts: all of ASCII.
const shiftBits = 7

func shiftIndex(first, second byte) int {
	const low = 1<<shiftBits - 1
	return int(first&low)<<shiftBits | int(second&low)
}

func newShifts(patterns []string) (int, []uint8) {
	const longestWindow = 1 << 8
	window := longestWindow
	for _, pattern := range patterns {
		window = min(window, len(pattern))
	}
	if window < 2 {
		return window, nil
	}
	shifts := make([]uint8, 1<<(2*shiftBits))
	for i := range shifts {
		shifts[i] = uint8(window - 1)
	}
	for _, pattern := range patterns {
		for i := 1; i < window; i++ {
			index := shiftIndex(pattern[i-1], pattern[i])
			shifts[index] = min(shifts[index], uint8(window-1-i))
		}
	}
	return window, shifts
}

func (a *automaton) addState(label byte, depth int32) int32 {
	a.first = append(a.first, none)
	a.next = append(a.next, none)
	a.fail = append(a.fail, root)
	a.longest = append(a.longest, 0)
	a.depth = append(a.depth, depth)
	a.label = append(a.label, label)
	return int32(len(a.label) - 1)
}

func (a *automaton) addPattern(pattern string) int32 {
	state := root
	for i := range len(pattern) {
		child := a.child(state, pattern[i])
		if child == none {
			child = a.addChild(state, pattern[i])
		}
		state = child
	}
	return state
}

func (a *automaton) addChild(state int32, label byte) int32 {
	child := a.addState(label, a.depth[state]+1)
	a.next[child], a.first[state] = a.first[state], child
	return child
}

func (a *automaton) child(state int32, b byte) int32 {
	for child := a.first[state]; child != none; child = a.next[child] {
		if a.label[child] == b {
			return child
		}
	}
	return none
}

// inOrder returns the same tree with the states numbered by depth.
func (a *automaton) inOrder(ends map[int32]bool) *automaton {
	ordered := &automaton{}
	ordered.addState(0, 0)
	former := []int32{root}
	for state := int32(0); int(state) < len(former); state++ {
		if ends[former[state]] {
			ordered.longest[state] = ordered.depth[state]
		}
		for child := a.first[former[state]]; child != none; child = a.next[child] {
			ordered.addChild(state, a.label[child])
			former = append(former, child)
		}
	}
	return ordered
}

// link finds, for every state, where to go on when none of its children fits.
func (a *automaton) link() {
	for state := range int32(len(a.depth)) {
		for child := a.first[state]; child != none; child = a.next[child] {
			if state != root {
				a.fail[child] = a.step(a.fail[state], a.label[child])
			}
			if a.longest[child] == 0 {
				a.longest[child] = a.longest[a.fail[child]]
			}
		}
	}
}

// fill makes the tables of the shallow states.
func (a *automaton) fill() {
	a.dense = int32(min(len(a.depth), maxDense))
	a.table = make([]uint32, int(a.dense)*256)
	for state := range a.dense {
		row := a.table[int(state)*256 : int(state+1)*256]
		if state != root {
			copy(row, a.table[int(a.fail[state])*256:])
		}
		for child := a.first[state]; child != none; child = a.next[child] {
			row[a.label[child]] = a.entry(child)
		}
	}
}

func (a *automaton) entry(state int32) uint32 {
	if a.longest[state] > 0 || state >= a.dense {
		return uint32(state) | attention
	}
	return uint32(state)
}

// scan reads data from i on until a pattern ends, in which case the state says so, or until data does.
// It returns the state and the position behind what was read.
func (a *automaton) scan(state int32, data []byte, i int) (int32, int) {
	table, shifts, window := a.table, a.shifts, a.window
	for i < len(data) {
		if state == root && shifts != nil {
			for last := i + window - 1; last < len(data); last = i + window - 1 {
				shift := int(shifts[shiftIndex(data[last-1], data[last])])
				if shift == 0 {
					break
				}
				i += shift
			}
		}
		if state < a.dense {
			entry := table[int(state)<<8|int(data[i])]
			i++
			state = int32(entry &^ attention)
			if entry&attention == 0 {
				continue
			}
		} else {
			state = a.step(state, data[i])
			i++
		}
		if a.longest[state] > 0 {
			break
		}
	}
	return state, i
}

// step returns the successor of any state.
func (a *automaton) step(state int32, b byte) int32 {
	for state >= a.dense {
		if child := a.child(state, b); child != none {
			return child
		}
		if state == root {
			return root
		}
		state = a.fail[state]
	}
	return int32(a.table[int(state)<<8|int(b)] &^ attention)
}
