// The name that somebody who mistyped may have meant.

/** The name with the fewest changed letters, or null where more than half of the letters would have to change. */
export function nearest(wanted, names) {
  let best = null;
  let fewest = Math.max(1, Math.floor(wanted.length / 2)) + 1;
  for (const name of names) {
    const changes = distance(wanted.toLowerCase(), name.toLowerCase());
    if (changes < fewest) [best, fewest] = [name, changes];
  }
  return best;
}

/** Levenshtein's distance: insertions, deletions and replacements of letters. */
function distance(a, b) {
  let above = [...Array(b.length + 1).keys()];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      row.push(Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    above = row;
  }
  return above[b.length];
}

/** Which of the names a lower-case text means: those that are it, otherwise those that hold it; a set of their places. */
export function named(text, names) {
  const those = (means) => names.flatMap((name, index) => (means(name.toLowerCase()) ? [index] : []));
  const whole = those((name) => name === text);
  return new Set(whole.length > 0 ? whole : those((name) => name.includes(text)));
}
