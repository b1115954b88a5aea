//! Text -> rule.

use super::{Comparison, Measure, Node, Quantity, Rule};
use crate::dataset::names::nearest;
use crate::refusal::{code, Refusal, Result};

/// Longest rule, bytes.
pub const MAX_BYTES: usize = 2000;
/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;

const EXAMPLE: &str = "An example: psi > 0.25 or (auc < 0.7 and rows >= 500).";

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Folded to lower case.
    Word(String),
    /// Between double quotes, which are gone.
    Quoted(String),
    Number(f64),
    Compare(Comparison),
    Open,
    Close,
}

impl Rule {
    /// Reads a rule.
    ///
    /// 42601 where it does not follow the grammar, 22023 for an unknown quantity or a number beyond
    /// float8, 54000 beyond [`MAX_BYTES`] or [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Rule> {
        if text.len() > MAX_BYTES {
            return Err(too_large(format!(
                "It has {} bytes, {MAX_BYTES} are the most.",
                text.len()
            )));
        }
        let mut parser = Parser { text, rest: text, peeked: None, depth: 0 };
        let node = parser.any()?;
        match parser.next()? {
            None => Ok(Rule(node)),
            Some(_) => Err(parser.wrong("and, or, or the rule's end")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    /// The next token, and what followed it.
    peeked: Option<(Option<Token>, &'a str)>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Node> {
        self.chain("or", Self::all, Node::Any)
    }

    fn all(&mut self) -> Result<Node> {
        self.chain("and", Self::factor, Node::All)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Node>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Node> {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.takes_word(word)? {
            parts.push(part(self)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => join(parts),
        })
    }

    fn factor(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_large(format!("It is nested more than {MAX_DEPTH} deep.")));
        }
        let node = match self.next()? {
            Some(Token::Open) => {
                let inner = self.any()?;
                self.require(&Token::Close, "a closing parenthesis")?;
                inner
            }
            Some(Token::Word(word)) if word == "not" => Node::Not(Box::new(self.factor()?)),
            Some(Token::Word(word)) => self.comparison(&word)?,
            _ => return Err(self.wrong("a quantity, not, or an opening parenthesis")),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self, word: &str) -> Result<Node> {
        let quantity = quantity(word)?;
        let column = match self.peek()? {
            Some(Token::Open) => Some(self.column(quantity)?),
            _ => None,
        };
        let Some(Token::Compare(comparison)) = self.next()? else {
            return Err(self.wrong("a comparison: <, <=, >, >=, = or <>"));
        };
        let Some(Token::Number(bound)) = self.next()? else { return Err(self.wrong("a number")) };
        Ok(Node::Compare(Measure { quantity, column }, comparison, bound))
    }

    fn column(&mut self, quantity: Quantity) -> Result<String> {
        if !quantity.takes_column() {
            return Err(syntax(format!("{} is not told of a column.", quantity.name())));
        }
        self.next()?;
        let (Some(Token::Word(column)) | Some(Token::Quoted(column))) = self.next()? else {
            return Err(self.wrong("a column"));
        };
        self.require(&Token::Close, "a closing parenthesis")?;
        Ok(column)
    }

    fn takes_word(&mut self, word: &str) -> Result<bool> {
        let is_next = matches!(self.peek()?, Some(Token::Word(next)) if next == word);
        if is_next {
            self.next()?;
        }
        Ok(is_next)
    }

    fn require(&mut self, token: &Token, what: &str) -> Result<()> {
        match self.next()? {
            Some(found) if found == *token => Ok(()),
            _ => Err(self.wrong(what)),
        }
    }

    fn peek(&mut self) -> Result<Option<&Token>> {
        if self.peeked.is_none() {
            self.peeked = Some(token(self.rest)?);
        }
        Ok(self.peeked.as_ref().and_then(|(token, _)| token.as_ref()))
    }

    fn next(&mut self) -> Result<Option<Token>> {
        let (token, rest) = match self.peeked.take() {
            Some(peeked) => peeked,
            None => token(self.rest)?,
        };
        self.rest = rest;
        Ok(token)
    }

    /// The refusal of the token that was read last.
    fn wrong(&self, expected: &str) -> Refusal {
        let read = &self.text[..self.text.len() - self.rest.len()];
        let detail = match read.trim().is_empty() {
            true => format!("Expected is {expected}."),
            false => format!("Expected is {expected} at the end of \"{}\".", read.trim()),
        };
        syntax(detail)
    }
}

/// The token at the start of a text, None at its end, and what follows it.
fn token(text: &str) -> Result<(Option<Token>, &str)> {
    let text = text.trim_start();
    let Some(first) = text.chars().next() else { return Ok((None, text)) };
    let starts = |symbol: &str| text.strip_prefix(symbol);
    for (symbol, token) in [
        ("<=", Token::Compare(Comparison::AtMost)),
        (">=", Token::Compare(Comparison::AtLeast)),
        ("<>", Token::Compare(Comparison::Unequal)),
        ("!=", Token::Compare(Comparison::Unequal)),
        ("<", Token::Compare(Comparison::Less)),
        (">", Token::Compare(Comparison::More)),
        ("=", Token::Compare(Comparison::Equal)),
        ("(", Token::Open),
        (")", Token::Close),
    ] {
        if let Some(rest) = starts(symbol) {
            return Ok((Some(token), rest));
        }
    }
    match first {
        '"' => quoted(text),
        '0'..='9' | '.' | '-' | '+' => number(text),
        _ if first.is_alphabetic() || first == '_' => {
            let (word, rest) = split(text, |c| c.is_alphanumeric() || c == '_' || c == '$');
            Ok((Some(Token::Word(word.to_lowercase())), rest))
        }
        _ => Err(syntax(format!("\"{first}\" has no meaning in a rule."))),
    }
}

fn quoted(text: &str) -> Result<(Option<Token>, &str)> {
    let mut name = String::new();
    let mut rest = &text[1..];
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(syntax("A column between double quotes has no end.".into()));
        };
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((Some(Token::Quoted(name)), after)),
        }
    }
}

fn number(text: &str) -> Result<(Option<Token>, &str)> {
    let end = text
        .char_indices()
        .find(|(place, c)| match c {
            '+' | '-' => *place > 0 && !text[..*place].ends_with(['e', 'E']),
            _ => !(c.is_ascii_alphanumeric() || *c == '.' || *c == '_'),
        })
        .map_or(text.len(), |(place, _)| place);
    let (digits, rest) = text.split_at(end);
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Some(Token::Number(value)), rest)),
        Ok(_) => Err(invalid(format!("{digits} is beyond float8."))),
        Err(_) => Err(syntax(format!("\"{digits}\" is no number."))),
    }
}

fn split(text: &str, within: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !within(c)).unwrap_or(text.len()))
}

fn quantity(word: &str) -> Result<Quantity> {
    Quantity::ALL.into_iter().find(|quantity| quantity.name() == word).ok_or_else(|| {
        let known = Quantity::ALL.map(Quantity::name);
        let near = nearest(word, &known).map(|near| format!("Perhaps you meant \"{near}\". "));
        Refusal::new(code::INVALID_PARAMETER, format!("\"{word}\" is no quantity of a rule"))
            .detail(format!("Rules read {}.", known.join(", ")))
            .hint(format!("{}{EXAMPLE}", near.unwrap_or_default()))
    })
}

fn syntax(detail: String) -> Refusal {
    Refusal::new(code::SYNTAX, "syntax error in rule").detail(detail).hint(EXAMPLE)
}

fn invalid(detail: String) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "invalid number in rule").detail(detail).hint(EXAMPLE)
}

fn too_large(detail: String) -> Refusal {
    Refusal::new(code::LIMIT_EXCEEDED, "rule is too large").detail(detail).hint(EXAMPLE)
}
