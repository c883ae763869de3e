// Package fleeting keeps track of a group of instances that a plugin manages in some cloud. RunPlugin
// starts a plugin as a process of its own; Init starts a Provisioner on its group, which asks the
// group for instances, watches them through their life and has them deleted.
//
// The Provisioner guarantees that it never asks for an instance while all instances, counted
// regardless of their state, fill the maximum size; that it deletes only instances on which Delete
// was called (or all of them at shutdown, if so configured); and that everything which happens to an
// instance is told to the subscribers in order, the end of its life included.
//
// Any program may import this package. Which instances are needed and who uses them is not decided
// here but in module taskscaler.
package fleeting
