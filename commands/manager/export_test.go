package manager

// RotationDue is for tests.
var RotationDue = rotationDue
