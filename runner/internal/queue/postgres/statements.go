package postgres

import (
	_ "embed"
	"strings"
)

//go:embed statements.sql
var statementsFile string

// statements are those of statements.sql, by name.
var statements = func() map[string]string {
	all := make(map[string]string)
	for _, block := range strings.Split(statementsFile, "\n-- name: ")[1:] {
		name, text, _ := strings.Cut(block, "\n")
		var sql []string
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "--") { // the reasons are for people
				sql = append(sql, line)
			}
		}
		all[name] = strings.Join(sql, "")
	}
	return all
}()

// statement returns one of them, which has to be there.
func statement(name string) string {
	sql := statements[name]
	if sql == "" {
		panic("no statement has the name " + name)
	}
	return sql
}
