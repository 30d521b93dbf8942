package assets

// What the tests reach of the inside.
var Lock = lock

// VersionFlags returns the key and the linker flags of a module directory.
func VersionFlags(dir string) (key, flags string, err error) {
	m, err := readModule(dir)
	if err != nil {
		return "", "", err
	}
	return m.key, m.versionFlags(), nil
}
