"""What the generated kinds are drawn with: the splits' words, faces and layouts, names, text parts, pages."""
