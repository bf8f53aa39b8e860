{#-
    Every character that shows as white space or as nothing at all: the ASCII ones, Unicode's spaces, and the
    zero-width space, word joiner and byte order mark. The zero-width joiners are left out: emoji and some scripts
    need them inside words.
-#}
{% macro space_characters() -%}
    {{ return(
        " \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
        ~ "\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
    ) }}
{%- endmacro %}


{#- Whether anything but white space is in a text. -#}
{% macro has_characters(text) -%} {{ matches(text, "[^" ~ space_characters() ~ "]") }} {%- endmacro %}


{#-
    Whether any text of a record calls for a closer look: white space to trim or fold, nothing at all, a control
    character, or the first bracket of a JSON array or object. Most records have none of them, and one look at all
    their texts is far cheaper than one at each.
-#}
{% macro is_unusual(texts) -%}
    {#- The texts are joined by bars; a bar inside of one only leads to a closer look that finds nothing. -#}
    {%- set joined = "concat('|', concat_ws('|', " ~ texts | join(", ") ~ "), '|')" -%}
    {{ matches(joined, "[ |] | [|]|[|][|]|[|][{[]|[" ~ space_characters()[1:] ~ "[:cntrl:]]") }}
{%- endmacro %}


{#-
    Trimmed, every run of white space inside folded to one space, and null when nothing is left. With
    enable_normalization off a text stays as it is, unless nothing is in it.
-#}
{% macro tidied(text, is_unusual) -%}
    {%- set folded = "trim(" ~ replaced(text, "[" ~ space_characters() ~ "]+", " ") ~ ")" -%}
    {%- if var("enable_normalization") -%}
        case when {{ is_unusual }} then nullif({{ folded }}, '') else {{ text }} end
    {%- else -%}
        case when not {{ is_unusual }} or {{ has_characters(text) }} then {{ text }} end
    {%- endif -%}
{%- endmacro %}


{#-
    The first letter of every word in upper case and the rest left alone. A word starts after anything that is neither
    letter, digit nor accent: a space, a hyphen, an apostrophe.
-#}
{% macro title_cased(text) -%}
    {{ return(adapter.dispatch("title_cased", "penstock")(text)) }}
{%- endmacro %}

{% macro duckdb__title_cased(text) -%}
    case
        when not regexp_matches({{ text }}, '(?:^|[^\p{L}\p{M}\p{N}_])\p{Ll}') then {{ text }}
        -- words with nothing but spaces between them, at a third of the cost
        when regexp_matches({{ text }}, '^[\p{L}\p{M}\p{N}_ ]*$') then array_to_string(
            list_transform(string_split({{ text }}, ' '), lambda part: upper(part[1]) || part[2:]), ' '
        )
        else array_to_string(
            list_transform(
                regexp_extract_all({{ text }}, '[\p{L}\p{M}\p{N}_]+|[^\p{L}\p{M}\p{N}_]+'),
                lambda part: upper(part[1]) || part[2:]
            ),
            ''
        )
    end
{%- endmacro %}

{% macro postgres__title_cased(text) -%}
    {%- set of_words = "[:alnum:]_\u0300-\u036f" -%}
    case
        when {{ text }} !~ '(^|[^{{ of_words }}])[[:lower:]]' then {{ text }}
        else (
            select string_agg(upper(left(part.matched[1], 1)) || substr(part.matched[1], 2), '' order by part.place)
            from regexp_matches({{ text }}, '[{{ of_words }}]+|[^{{ of_words }}]+', 'g')
                with ordinality as part (matched, place)
        )
    end
{%- endmacro %}


{#-
    Whether a text holds a control character, which no name or id has and Postgres may refuse, or is the JSON of an
    array or object that stood where a plain value belongs.
-#}
{% macro is_no_plain_text(text) -%} {{ matches(text, "^[{[]|[[:cntrl:]]") }} {%- endmacro %}


{#- Whether a text has the form of an e-mail address: words joined by single dots, an @, two labels or more. -#}
{% macro is_email(text) -%}
    {#- Letters of other scripts are allowed on both sides; white space and control characters are not. -#}
    {%- set letters = "A-Za-z0-9\xa1-\U0010ffff" -%}
    {%- set word = "[" ~ letters ~ "!#$%&'*+/=?^_`{|}~-]+" -%}
    {%- set label = "[" ~ letters ~ "]([" ~ letters ~ "-]*[" ~ letters ~ "])?" -%}
    {%- set last_label = "([A-Za-z\xa1-\U0010ffff]{2,}|[Xx][Nn]--[A-Za-z0-9-]*[A-Za-z0-9])" -%}
    {{ dbt.length(text) }} <= 254
    and {{ matches(text, "^" ~ word ~ "([.]" ~ word ~ ")*@(" ~ label ~ "[.])+" ~ last_label ~ "$") }}
{%- endmacro %}
