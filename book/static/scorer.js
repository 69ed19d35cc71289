// What the search shows first: chapters, then the back matter, then the package, in each
// what has the word in its title before what has it in its text. Of a term that is the
// whole query Sphinx makes 100 points, of a title at most 15, and 15 of a page that has
// one of the words in some title: a section about the whole query comes before it.
var Scorer = {
  score: ([page, , section, text, score]) => {
    if (section && text === null) score += 10;
    if (/book\/(api|assignments)/.test(page)) return score - 200;
    return /book\/(glossary|notation|references|instructors|objectives|oral_questions|course_plan|contest|explorers)/.test(page) ? score - 100 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
