set terminal svg size 600,410 dynamic noenhanced background '#ffffff' font 'sans-serif,12'
set key tmargin left Left reverse vertical maxcols 1 title {{printf "%q" .Title}} left
set xlabel {{printf "%q" .X}}
set ylabel {{printf "%q" .Y}}
set logscale y
set border 3 lc '#5d646d'
set tics nomirror
set grid lt 1 lw 0.5 lc '#dcdfe3'
set offsets graph 0.02, 0.02, 0, 0
set linetype 1 lc '#0b57b0'
set linetype 2 lc '#b35900'
set linetype 3 lc '#1a6b2f'
set linetype 4 lc '#7a3db8'
set style data linespoints
{{range $i, $_ := .Lines}}
$s{{$i}} << end
{{range .Points}}{{.X}} {{.Y}}
{{end}}end
{{end}}
plot {{range $i, $_ := .Lines}}$s{{$i}} using ({{$.At}}):2:xtic(1) lw 2 pt 7 ps 0.4 title {{printf "%q" .Name}}, {{end}}
