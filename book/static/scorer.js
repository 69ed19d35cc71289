// What the search shows first: chapters, then the back matter, then the package, in each
// what has the word in its title before what has it in its text.
var Scorer = {
  score: ([page, , , , score]) => {
    if (/book\/(api|assignments)/.test(page)) return score - 100;
    return /book\/(glossary|notation|references|instructors|contest|explorers)/.test(page) ? score - 20 : score;
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
