# Takes out of scdoc's output the paragraph marks that mean nothing, of which mandoc -Tlint complains (right after a
# heading, or before another mark), and folds long lines of text.
/^\.P$/ { pending = 1; next }
{
    if (pending && !after_heading && $0 !~ /^\.(SH|SS|RS|RE|TP|P|TS)/) print ".P"
    pending = 0
    if ($1 == ".TH") $2 = toupper($2)
    after_heading = $0 ~ /^\.(SH|SS)/
    if ($0 ~ /^\.(TS|nf)/) asis = 1
    if ($0 ~ /^\.(TE|fi)/) asis = 0
    while (!asis && $0 !~ /^[.']/ && length($0) > 78) {
        cut = 78
        while (cut > 1 && (substr($0, cut, 1) != " " || substr($0, cut + 1, 1) ~ /[.']/)) cut--
        if (cut == 1) break
        print substr($0, 1, cut - 1)
        $0 = substr($0, cut + 1)
    }
    print
}
