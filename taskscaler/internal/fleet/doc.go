// Package fleet is the part of the scaler that thinks: the state of all instances, slots and tasks, and
// the plan that follows from it.
//
// State is changed by two things only: events, which report facts (an instance was seen, a task wants a
// slot), and Apply, which records that a decision was carried out. Plan reads a State and returns what
// is to be done now, each decision with its reason; it changes nothing and knows no clock but the
// moment it is given. Whoever owns a State calls Plan after every event, carries out and applies the
// decisions, and repeats that until Plan has none left.
//
// What the plans guarantee, whatever the events:
//
//   - an instance with a task on it, active or suspended, is never deleted;
//   - a slot has one owner at most, and a task keeps the number of its slot;
//   - no more instances exist or are asked for than the maximum, counted in every state;
//   - no more instances are asked for than waiting tasks and the idle target need;
//   - no instance gets more tasks in its life than its use count allows.
//
// Nothing here starts a goroutine, does input or output, or is safe for concurrent use. Only package
// taskscaler imports it.
package fleet
