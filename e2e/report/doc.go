// Package report makes what people look at after a run: one HTML page that needs
// nothing else, a summary in Markdown, and, while it runs, a line of progress.
//
// It knows no cluster and no scenario file. What it reads is Ginkgo's own report. In
// it each scenario has a story, which TellStory makes of the record and which is small
// enough to be kept of those that pass, too. So the page of an old run can be made
// anew: e2e report DIR.
package report
